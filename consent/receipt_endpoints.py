"""Receipts over HTTP: fetch one in the format wanted, check one, and the key behind them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from consent.members_port import MemberDirectory
from consent.receipts import ReceiptFormat, Receipts
from consent.schemas import ReceiptAnswer, ReceiptBody, ReceiptKeyAnswer, VerifiedAnswer
from consent.service import ConsentService
from kernel import Database, NotFoundError
from kernel.schemas import problems
from kernel.web import NO_STORE, Gatekeeper, JSONBytes

# A receipt is a page to print: nothing on it runs, and nothing but our own style is fetched.
_PAGE_HEADERS = {
    **NO_STORE,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; font-src 'self'",
    "X-Content-Type-Options": "nosniff",
}


def router(
    database: Database,
    consent: ConsentService,
    receipts: Receipts,
    members: MemberDirectory,
    gatekeeper: Gatekeeper,
) -> APIRouter:
    """Make the routes of receipts."""
    routes = APIRouter(prefix="/v1", tags=["Consent"])

    @routes.get(
        "/consents/{consent_id}/receipt",
        response_model=ReceiptAnswer,
        responses={
            200: {"content": {"text/html": {"schema": {"type": "string"}}}},
            **problems(401, 403, 404, 422),
        },
        summary="Fetch the signed receipt of a decision",
    )
    async def receipt(
        request: Request,
        consent_id: Annotated[
            str, Path(max_length=40, examples=["con_01m834me6af2pbfz0y2mwcs81r"])
        ],
        form: Annotated[
            ReceiptFormat, Query(alias="format", description="how the receipt is written")
        ] = ReceiptFormat.OWN,
    ) -> Response:
        caller = await gatekeeper.require(request, "consent", "read")
        async with database.read() as session:
            event = await consent.event(session, consent_id)
            principal = await members.known_as(session, event.member_id, caller)
            if principal is None:
                raise NotFoundError("no such consent event", reason="consent_unknown")
            jurisdiction = await members.jurisdiction_of(session, event.member_id)
            written = await receipts.write(
                session, event, form, principal=principal, jurisdiction=jurisdiction
            )
        headers = _PAGE_HEADERS if form is ReceiptFormat.HTML else NO_STORE
        return Response(written.content, 200, headers, written.media_type)

    @routes.post(
        "/receipts:verify",
        response_model=VerifiedAnswer,
        responses=problems(401, 403, 422),
        summary="Check a receipt: signature, words in clear, and the log's proof",
    )
    async def verify(request: Request, body: ReceiptBody) -> JSONBytes:
        await gatekeeper.require(request, "consent", "read")
        document: dict[str, Any] = {"jws": body.jws}
        for name in ("receipt", "proof"):
            value = getattr(body, name)
            if value is not None:
                document[name] = value
        async with database.read() as session:
            report = await receipts.verify(session, document)
        return JSONBytes(
            {
                "valid": report.ok,
                "finding": report.finding,
                "proof": report.proof,
                "receipt": report.receipt,
            }
        )

    @routes.get(
        "/receipts/key",
        response_model=ReceiptKeyAnswer,
        summary="Fetch the key that verifies receipts, as a JWK",
    )
    async def key() -> JSONBytes:
        return JSONBytes(receipts.signer.jwk())

    return routes
