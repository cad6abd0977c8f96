"""The OpenAPI document of this installation: the routes, in the words of its own policy pack.

What the framework cannot know is added here: which purposes, channels and fields exist, which
scopes there are, examples that this very registry accepts, how one answer leads to the next
request, and that every operation may refuse with a problem.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from kernel.http import PROBLEM_MEDIA_TYPE
from kernel.i18n import Language
from kernel.schemas import Problem
from policies import BasisKind, FieldKind, PolicyPack, Purpose, Storage, scope_grammar
from service.settings import Settings

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_OPEN = ("/livez", "/readyz", "/v1/purposes", "/v1/notices/", "/v1/audit/key",
         "/v1/audit/checkpoint", "/v1/receipts/key", "/audit/log/")  # fmt: skip
_MEMBER = "/v1/members/{member}"
_POINTS = _MEMBER + "/contact-points"
_COUPONS = _MEMBER + "/coupons"
_VERIFY = _POINTS + "/{contact_point}:verify"
_GUARDIANS = _MEMBER + "/guardians"
_REQUESTS = "/v1/rights-requests"
_STEPS = ("verify", "extend", "pause", "resume", "fulfil", "refuse")
_REPEATABLE = ("/v1/members", _MEMBER + ":introduce", _POINTS, _VERIFY,
               _MEMBER + "/consents", _MEMBER + "/consents:withdraw", _MEMBER + "/objections",
               _GUARDIANS, _GUARDIANS + "/{guardian}:verify", _GUARDIANS + "/{guardian}:end",
               _MEMBER + "/points", "/v1/purchases", _COUPONS, _COUPONS + "/{coupon}:use",
               "/v1/tags/{tag}:set", "/v1/tags/{tag}:clear",
               "/v1/duplicates/{duplicate}:merge", "/v1/duplicates/{duplicate}:dismiss",
               "/v1/merges/{merge}:undo", "/v1/imports",
               "/v1/webhooks", "/v1/webhooks/{webhook}:replay",
               "/v1/webhooks/{webhook}/deliveries/{delivery}:acknowledge",
               "/v1/restrictions", "/v1/legal-holds", _REQUESTS,
               *(f"{_REQUESTS}/{{request_id}}:{step}" for step in _STEPS))  # fmt: skip
# A registration does not lead to these: they need an id that another request gives.
_OTHER_IDS = ("{guardian}", "{coupon}")
_TAGGED = (
    ("get", _MEMBER),
    ("patch", _MEMBER),
    ("get", _MEMBER + "/consents"),
    ("post", _MEMBER + "/consents"),
    ("post", _MEMBER + "/consents:withdraw"),
    ("post", _MEMBER + "/objections"),
)
_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key with the same body is done once; kept for 24 hours",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_REPLAYED = {
    "description": "true when an earlier answer to the same key is given again",
    "schema": {"type": "string", "const": "true"},
}
_ETAG = {
    "description": "the version that was shown, for If-Match",
    "schema": {"type": "string", "pattern": '^"v[0-9]+"$'},
}
_PROBLEM = {
    "description": "Problem",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SAMPLES = {
    FieldKind.NAME: "สมหญิง",
    FieldKind.PHONE: "081-234-5678",
    FieldKind.DATE: "12/03/2535",
}

Json = dict[str, Any]


def document(app: FastAPI, pack: PolicyPack, settings: Settings, at: datetime) -> Json:
    """Write the OpenAPI 3.1 document; `at` chooses the notice revisions of the examples."""
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    components = schema.setdefault("components", {})
    components["securitySchemes"] = _security_schemes(pack)
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["Problem"].pop("$defs", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    _name_what_the_pack_has(schemas, pack)
    for name, example in _examples(pack, settings, at).items():
        schemas[name]["examples"] = [example]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _describe(path, method, operation, pack)
    _link(schema["paths"])
    return schema


def _security_schemes(pack: PolicyPack) -> Json:
    described = {
        name: f"read for the purpose {name.partition(':')[2]}"
        if name.startswith("purpose:")
        else name.replace(":", ": ")
        for name in scope_grammar(pack)
    }
    flow = {"tokenUrl": "/oauth/token", "scopes": described}
    return {
        "clientCredentials": {"type": "oauth2", "flows": {"clientCredentials": flow}},
        "clientSecret": {"type": "http", "scheme": "basic"},
    }


def _describe(path: str, method: str, operation: Json, pack: PolicyPack) -> None:
    """Say what an operation needs, may be sent and may refuse with."""
    operation["tags"] = operation["tags"][-1:]
    if path == "/oauth/token":
        operation["security"] = [{"clientSecret": []}, {}]
    else:
        operation["security"] = [] if path.startswith(_OPEN) else [{"clientCredentials": []}]
    responses: Json = operation["responses"]
    if "422" in responses:
        responses["422"] = _PROBLEM
    responses.setdefault("default", _PROBLEM)
    success = next(answer for status, answer in responses.items() if status.startswith("2"))
    if method == "post" and path in _REPEATABLE:
        operation.setdefault("parameters", []).append(_KEY_PARAMETER)
        success.setdefault("headers", {})["Idempotency-Replayed"] = _REPLAYED
    if (method, path) in _TAGGED:
        success.setdefault("headers", {})["ETag"] = _ETAG
    if method == "get" and path in {_MEMBER, _MEMBER + "/view", _MEMBER + "/loyalty", _COUPONS}:
        operation["parameters"] = [
            _reading_parameter(parameter, pack, masked=path != _MEMBER + "/view")
            for parameter in operation["parameters"]
        ]


def _reading_parameter(parameter: Json, pack: PolicyPack, *, masked: bool) -> Json:
    """Name the purposes and channels to read for; outlines are for the first purpose's work."""
    reading = next(iter(pack.purposes.values()))
    if not masked:
        reading = next(iter(_by_consent(pack)), reading)
    channel = reading.channels[0] if reading.channelled else None
    fields = reading.fields_for(channel)
    named = [key for key in _sample_fields(pack) if key in fields]
    known: Mapping[str, tuple[Json, str | None]] = {
        "purpose": ({"type": "string", "enum": list(pack.purposes)}, reading.key),
        "channel": ({"type": "string", "enum": list(pack.channels)}, channel),
        "fields": (parameter["schema"], ",".join(named)),
    }
    if parameter["name"] not in known:
        return parameter
    schema, example = known[parameter["name"]]
    kept = {name: value for name, value in parameter.items() if name != "example"}
    return {**kept, "schema": schema, **({"example": example} if example else {})}


# --- the pack's words -----------------------------------------------------------------


def _by_consent(pack: PolicyPack) -> list[Purpose]:
    return [
        purpose
        for purpose in pack.purposes.values()
        if BasisKind.CONSENT in {purpose.default_basis, *purpose.basis.values()}
    ]


def _name_what_the_pack_has(schemas: Json, pack: PolicyPack) -> None:
    """Replace open texts by the purposes, channels, fields and laws there are."""
    consented: list[str] = [purpose.key for purpose in _by_consent(pack)]
    sealed = [key for key, entry in pack.fields.items() if entry.storage is Storage.SEALED]
    for name, schema in schemas.items():
        if not name.endswith("Body"):
            continue
        properties: Json = schema["properties"]
        decided = name in {"ConsentBody", "DecisionBody", "WithdrawBody"}
        words: Mapping[str, list[Any]] = {
            "purpose": consented if decided else _objectionable(pack, name),
            "channel": list(pack.channels),
            "jurisdiction": list(pack.jurisdictions),
            "offer": list(pack.loyalty.coupons),
        }
        for field, known in words.items():
            if field in properties:
                _enumerate(properties[field], known)
        fields = properties.get("fields")
        if fields is not None and fields.get("type") == "object":
            fields["propertyNames"] = {"enum": sealed}
        elif fields is not None:
            _enumerate(fields, list(pack.fields))


def _objectionable(pack: PolicyPack, body: str) -> list[str]:
    """Give the purposes that a body may name: for an objection, those of direct marketing."""
    return [
        key for key, one in pack.purposes.items() if one.direct_marketing or body != "ObjectBody"
    ]


def _enumerate(schema: Json, known: list[Any]) -> None:
    """Put an enumeration at every text inside a schema."""
    if schema.get("type") == "string":
        for bound in ("maxLength", "pattern"):
            schema.pop(bound, None)
        schema["enum"] = known
    for inner in (*schema.get("anyOf", ()), *filter(None, [schema.get("items")])):
        _enumerate(inner, known)


# --- examples -------------------------------------------------------------------------


def _examples(pack: PolicyPack, settings: Settings, at: datetime) -> Json:
    """Give request bodies that this registry accepts, once the ids in them are its own."""
    values = _sample_fields(pack)
    reading = next(iter(pack.purposes))
    identifier = next(
        (key, entry.index.value)
        for key, entry in pack.fields.items()
        if entry.index is not None and key in values
    )
    region = {"phone_region": "TH", "date_era": "be-dmy"}
    examples: Json = {
        "RegisterBody": {
            "brand": settings.brand,
            "jurisdiction": settings.jurisdiction,
            "formats": region,
            "fields": values,
            "consents": [],
        },
        "UpdateBody": {"formats": region, "fields": {identifier[0]: values[identifier[0]]}},
        "LookupBody": {
            "kind": identifier[1],
            "value": values[identifier[0]],
            "region": "TH",
            "purpose": reading,
        },
        "BatchBody": {"ids": ["sub_52d26pfztp1nmz8kye4m2pcahc"], "purpose": reading},
        "ContactPointBody": {"kind": "phone", "value": "089-876-5432", "region": "TH"},
        "CheckBody": {"id": "sub_52d26pfztp1nmz8kye4m2pcahc", "purpose": reading},
    }
    consented = _by_consent(pack)
    if consented:
        decision = _sample_decision(pack, consented[0], at)
        examples["RegisterBody"]["consents"] = [decision]
        examples["RecordBody"] = {"consents": [decision]}
        examples["ConsentBody"] = examples["DecisionBody"] = decision
        examples["WithdrawBody"] = examples["AudienceBody"] = examples["ExportBody"] = {
            key: decision[key] for key in ("purpose", "channel") if key in decision
        }
    return examples


def _sample_fields(pack: PolicyPack) -> dict[str, str]:
    return {
        key: _SAMPLES[entry.kind]
        for key, entry in pack.fields.items()
        if entry.storage is Storage.SEALED and entry.kind in _SAMPLES
    }


def _sample_decision(pack: PolicyPack, purpose: Purpose, at: datetime) -> Json:
    notice = pack.current_notice(purpose.notice, Language.TH, at)
    return {
        "purpose": purpose.key,
        **({"channel": purpose.channels[0]} if purpose.channelled else {}),
        "decision": "given",
        "notice_revision": notice.revision,
        "lang": Language.TH.value,
        "evidence": {"ui_action": "switch_on", "shown_at": "2026-11-23T03:00:00Z"},
    }


# --- links ----------------------------------------------------------------------------


def _link(paths: Json) -> None:
    """Say which requests the id of a registered or found member leads to."""
    about_member = {
        operation["operationId"]: {"member": "$response.body#/id"}
        for path, operations in paths.items()
        if path.startswith(_MEMBER) and not any(other in path for other in _OTHER_IDS)
        for operation in operations.values()
    }
    verify = paths[_VERIFY]["post"]["operationId"]
    receipt = paths["/v1/consents/{consent_id}/receipt"]["get"]["operationId"]
    found = {name: places for name, places in about_member.items() if name != verify}
    registered = {
        **found,
        verify: {**about_member[verify], "contact_point": "$response.body#/contact_points/0/id"},
        receipt: {"consent_id": "$response.body#/consents/0/id"},
    }
    paths["/v1/members"]["post"]["responses"]["201"]["links"] = _links(registered)
    paths["/v1/members:lookup"]["post"]["responses"]["200"]["links"] = _links(found)


def _links(places: Mapping[str, Mapping[str, str]]) -> Json:
    return {
        operation: {"operationId": operation, "parameters": dict(parameters)}
        for operation, parameters in places.items()
    }
