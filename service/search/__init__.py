"""Search: the one process that holds members' names and birth months, in RAM and nowhere else.

The process has no key, no database and no network: it is told names over a socket by the server
that may open them, finds substrings in them, and forgets a name by overwriting it. Nothing that
could be searched ever rests on a disk (docs/adr/0013-names-in-one-processs-memory.md).
"""
