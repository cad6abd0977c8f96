"""The names of the durable facts by which a database knows what it belongs to."""

FACT_RING = "key_ring"
FACT_TENANT = "tenant"
FACT_POLICY = "policy_digest"
FACT_ORIGIN = "log_origin"
