"""A pack of evidence, handed out at the console: what was searched for, with its proofs."""

import tempfile
from dataclasses import replace
from pathlib import Path

from fastapi import APIRouter, Request, Response

from audit import EventFilter, brand_of
from kernel import InvalidRequestError
from service.console.desk import Console
from service.console.questions import TYPED, member_key, read_question
from service.evidence import evidence
from service.trail_views import trail_views

_PLACE = "trail"
_NAMED = 'attachment; filename="evidence.zip"'


def routes(console: Console) -> APIRouter:
    """Make the route of packs; whoever may read the trail and not export it is refused."""
    packs = APIRouter()
    views = trail_views(console.runtime.settings)

    @packs.post("/trail/evidence")
    async def pack(request: Request) -> Response:
        desk, fields = await console.act(request, _PLACE)
        if not console.may(desk, "audit", "export"):
            await console.refuse(desk, _PLACE)
        wanted = read_question(desk, {name: fields.get(name, "") for name in TYPED}, views)
        if wanted is None:
            raise InvalidRequestError(reason="no_word_of_the_trail")
        wanted, key = replace(wanted, brand=brand_of(desk.account.brand)), None
        if fields.get("member"):
            key, tokens = await member_key(console, desk, fields["member"])
            wanted = EventFilter(subjects=tokens)
        with tempfile.TemporaryDirectory(prefix="yinyom-evidence-") as folder:
            out = Path(folder) / "evidence.zip"
            await evidence(console.runtime, desk.caller, wanted, out, subject=key)
            data = out.read_bytes()
        return console.file(data, "application/zip", _NAMED)

    return packs
