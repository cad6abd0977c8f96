"""Is a decision fit to be recorded? Pure checks of it against the pack.

Evidence is codes and moments only, so that no personal text can hide in it, and words are named
by their revision, so that what was agreed to can be shown again.
"""

import re
from collections.abc import Sequence
from typing import Any

from consent.decision import NEEDS_GUARDIAN
from consent.errors import ConsentError, GuardianRequiredError
from consent.model import ConsentRequest, ConsentState, Status
from kernel import FieldProblem, from_rfc3339
from policies import AgeTier, BasisKind, Channel, PolicyPack, Purpose, PurposeKey

_CODE = re.compile(r"(?!.*[0-9]{7})[a-z][a-z0-9_.-]{0,63}")
_EVIDENCE_CODES = ("ui_action", "form", "place", "device")
CLOCKS_DIFFER_US = 5 * 60_000_000
_EVIDENCE_MOMENTS = ("shown_at", "decided_at")


def consent_purpose(pack: PolicyPack, key: str, place: str) -> Purpose | FieldProblem:
    """Find a purpose that rests on consent somewhere, or say what is wrong with it."""
    purpose = pack.purposes.get(PurposeKey(key))
    if purpose is None:
        return FieldProblem(place, "unknown_purpose", "no such purpose")
    kinds = {purpose.default_basis, *purpose.basis.values()}
    if BasisKind.CONSENT not in kinds:
        return FieldProblem(place, "not_by_consent", "this purpose does not rest on consent")
    return purpose


def channel_problem(purpose: Purpose, channel: str, place: str) -> FieldProblem | None:
    """Say what is wrong with a channel for a purpose."""
    if purpose.channelled and Channel(channel) not in purpose.channels:
        code = "unknown_channel" if channel else "channel_required"
        return FieldProblem(place, code, f"use one of {', '.join(purpose.channels)}")
    if not purpose.channelled and channel:
        return FieldProblem(place, "channel_not_applicable", "this purpose has no channels")
    return None


def problems_of(
    pack: PolicyPack, request: ConsentRequest, place: str, now_us: int
) -> list[FieldProblem]:
    """Name every fault of one decision, at its place."""
    purpose = consent_purpose(pack, request.purpose, f"{place}/purpose")
    if isinstance(purpose, FieldProblem):
        return [purpose]
    problems: list[FieldProblem] = []
    channel = channel_problem(purpose, request.channel, f"{place}/channel")
    if channel is not None:
        problems.append(channel)
    notice = None if request.notice_revision is None else pack.notice_of(request.notice_revision)
    if notice is None or notice.key != purpose.notice:
        problems.append(
            FieldProblem(
                f"{place}/notice_revision",
                "unknown_notice_revision",
                "name the revision of the words that were shown (GET /v1/notices/…)",
            )
        )
    elif request.lang != notice.lang.value:
        problems.append(
            FieldProblem(f"{place}/lang", "wrong_language", "the revision is in another language")
        )
    problems.extend(evidence_problems(request.evidence, f"{place}/evidence", now_us))
    return problems


def check_guardians(
    requests: Sequence[ConsentRequest], age_tier: AgeTier, proven: frozenset[str]
) -> None:
    """Hold who decides against the age tier and the proven guardians of the member.

    Raises:
        GuardianRequiredError: A minor decides alone, or with somebody who is not proven.
        ConsentError: A guardian is named for a member who decides alone.
    """
    minor = age_tier in NEEDS_GUARDIAN
    named = {request.guardian for request in requests if request.guardian is not None}
    alone = any(r.status is Status.GIVEN and r.guardian is None for r in requests)
    if named and not minor:
        raise ConsentError("the member decides alone", reason="guardian_not_applicable")
    if (minor and alone) or not named <= proven:
        raise GuardianRequiredError(reason="guardian_required")


def lifts(objection: ConsentState, request: ConsentRequest, now_us: int) -> bool:
    """Say whether a decision lifts an objection: a yes of the person's own, seen after it.

    Evidence names the act (`ui_action`) and a moment past the objection that has come: one that
    is still ahead proves nothing, not even by the minutes that clocks may differ. What an import
    brings has neither, so it never overrides.
    """
    moments = [
        moment_us
        for key in _EVIDENCE_MOMENTS
        if key in request.evidence and (moment_us := from_rfc3339(request.evidence[key])) <= now_us
    ]
    seen = "ui_action" in request.evidence and bool(moments)
    return request.status is Status.GIVEN and seen and max(moments) > objection.since_us


def not_lifted(position: int) -> ConsentError:
    """Say what is missing for a decision to lift an objection."""
    problem = FieldProblem(
        f"/consents/{position}/evidence",
        "objected",
        "name the member's own act (ui_action) and its moment after the objection",
    )
    return ConsentError("the member objected to this purpose", reason="objected", errors=[problem])


def evidence_problems(evidence: dict[str, Any], place: str, now_us: int) -> list[FieldProblem]:
    """Evidence is codes and moments that have come, so that no personal text can hide in it.

    A moment may lie ahead by what clocks differ: whoever notes it has one of their own.
    """
    problems: list[FieldProblem] = []
    for key, value in evidence.items():
        if key in _EVIDENCE_CODES:
            fine = isinstance(value, str) and _CODE.fullmatch(value) is not None
        elif key in _EVIDENCE_MOMENTS:
            fine = isinstance(value, str) and _is_moment(value)
            if fine and from_rfc3339(value) > now_us + CLOCKS_DIFFER_US:
                problems.append(FieldProblem(f"{place}/{key}", "in_future", "it has not come yet"))
                continue
        else:
            problems.append(FieldProblem(place, "unknown_evidence", "a key is not known"))
            continue
        if not fine:
            problems.append(FieldProblem(f"{place}/{key}", "evidence", "not a code or moment"))
    return problems


def _is_moment(text: str) -> bool:
    try:
        from_rfc3339(text)
    except (ValueError, OverflowError):
        return False
    return True
