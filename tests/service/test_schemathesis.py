"""A judge that is not ours: schemathesis throws the whole OpenAPI document at a served registry.

Once as a stranger would, with ids that mean nothing, and once with a member, a contact point and
a receipt that exist, so that the inputs reach the inside. Every check is on; the only one with
exceptions is `positive_data_acceptance`, and each exception has its reason below.
"""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import environment, served_registry

pytest.importorskip("schemathesis", reason="install the extra [test]")

BOTH_ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]

# A JSON schema describes one place at a time. What these operations take depends on something
# else besides, so a request that fits the schema may still be refused with 422 or 412:
TAKES_MORE_THAN_A_SCHEMA_SAYS = {
    ("POST", "/v1/members"): "values are phone numbers and dates in the declared form",
    ("PATCH", "/v1/members/{member}"): "the same, and If-Match names the present version",
    ("POST", "/v1/members:lookup"): "the value fits its kind, in the declared region",
    (
        "POST",
        "/v1/members:search",
    ): "two letters at least; the purpose has the channel, or has none",
    ("POST", "/v1/members/{member}/contact-points"): "the value fits its kind",
    ("POST", "/v1/members/{member}/contact-points/{contact_point}:verify"): "the code is right",
    ("POST", "/v1/members/{member}/consents"): "the revision is of words that were published",
    ("POST", "/v1/members/{member}/consents:withdraw"): "the purpose has the channel",
    ("POST", "/v1/members/{member}/guardians"): "either a contact or a member is named",
    ("POST", "/v1/members/{member}/objections"): "evidence is codes and moments",
    ("GET", "/v1/members/{member}/view"): "the purpose has the channel, or has none",
    ("GET", "/v1/members/{member}/loyalty"): "the purpose has the channel, or has none",
    ("GET", "/v1/members/{member}/coupons"): "the purpose has the channel, or has none",
    ("POST", "/v1/members/{member}/coupons"): "a restricted member is given none",
    ("POST", "/v1/members/{member}/points"): "nobody redeems more than there is",
    ("GET", "/v1/members/{member}"): "the purpose has the channel, or has none",
    ("POST", "/v1/members:view"): "the purpose has the channel, or has none",
    ("POST", "/v1/decisions:check"): "the purpose has the channel, or has none",
    ("GET", "/v1/members/{member}/consents"): "as_of is a moment of our time with its offset",
    ("GET", "/v1/members/{member}/disclosures"): "a cursor is one that the listing gave out",
    ("POST", "/v1/audiences:query"): "the purpose has the channel, and the brand is one's own",
    ("POST", "/v1/audiences:export"): "the purpose has the channel, and the brand is one's own",
    ("GET", "/v1/changes"): "a cursor is one that the feed gave to this client",
    ("GET", "/v1/suppressions"): "the purpose has the channel; a cursor is of this listing",
    ("POST", "/v1/webhooks"): "the target is one that webhooks go to, and the types are known",
    ("POST", "/v1/webhooks/{webhook}:replay"): "since is a moment of our time with its offset",
    ("GET", "/v1/webhooks/{webhook}/deliveries"): "a cursor is one that the listing gave out",
    ("POST", "/v1/rights-requests"): "the details are those of the right",
    ("POST", "/v1/rights-requests/{request_id}:verify"): "a code comes with its contact point",
    ("POST", "/v1/rights-requests/{request_id}:refuse"): "the reason is one of the law's",
    ("GET", "/v1/rights-requests"): "a cursor is one that the listing gave out",
    ("GET", "/v1/refusals"): "a cursor is one that the register gave out",
    ("POST", "/v1/restrictions"): "the last day has not passed",
    ("POST", "/v1/legal-holds"): "months do not run backwards, and the action is a word",
    ("GET", "/v1/legal-holds"): "a cursor is one that the listing gave out",
    ("GET", "/v1/duplicates"): "a cursor is one that the listing gave out",
    ("POST", "/v1/duplicates/{duplicate}:merge"): "the survivor is one of the two",
    ("POST", "/v1/imports"): "the file is one of members, declared as it is",
    ("GET", "/v1/imports/{import_id}/quarantine"): "a cursor is one that the listing gave out",
    ("GET", "/v1/audit/events"): "a cursor is one that the listing gave out",
}


@pytest.fixture(scope="module", params=BOTH_ENGINES)
def registry(request, module_settings):
    """A registry of its own: it is left full of what the judge made up."""
    with served_registry(module_settings(request.param)) as served:
        yield served


def exactly(document: dict) -> dict:
    """The same document in which an answer may hold nothing that is not documented.

    It is not published like this: programs must let an answer grow.
    """
    document = copy.deepcopy(document)
    for name, schema in document["components"]["schemas"].items():
        if not name.endswith("Body") and schema.get("type") == "object":
            schema["additionalProperties"] = False
    return document


def configuration(known: dict[str, str]) -> str:
    lines = ["[parameters]", *(f'"{name}" = "{value}"' for name, value in known.items())]
    for method, path in TAKES_MORE_THAN_A_SCHEMA_SAYS:
        lines += [
            "[[operations]]",
            f'include-name = "{method} {path}"',
            'checks.positive_data_acceptance.expected-statuses = ["2xx", "403", "404", "409", "412", "422", "423"]',
        ]
    return "\n".join(lines)


def judge(registry, folder: Path, *options: str, known: dict[str, str] | None = None) -> int:
    """Let schemathesis run to its end without a failure; gives the number of requests."""
    document = registry.http.get("/openapi.json").json()
    listed = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert set(TAKES_MORE_THAN_A_SCHEMA_SAYS) <= listed
    (folder / "openapi.json").write_text(json.dumps(exactly(document)))
    (folder / "schemathesis.toml").write_text(configuration(known or {}))
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", folder / "schemathesis.toml"),
            *("run", folder / "openapi.json", "--url", registry.server.base_url),
            *("--header", f"Authorization: Bearer {registry.crm.sign_in().token}"),
            *("--continue-on-failure", "--generation-database", "none"),
            *("--seed", os.environ.get("YINYOM_TEST_SEED", "20261123"), "--no-color", *options),
        ],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert f"Tested: {len(listed)}" in said, said
    log = registry.server.logged()
    assert '"event":"crash"' not in log
    assert "Traceback" not in log
    return int(re.search(r"([\d,]+) generated", said)[1].replace(",", ""))


def known_ids(registry) -> dict[str, str]:
    member = registry.crm.register(registry.crm.decision())
    asked = registry.crm.post("/v1/rights-requests", {"member": member["id"], "right": "access"})
    return {
        "member": member["id"],
        "contact_point": member["contact_points"][0]["id"],
        "consent_id": member["consents"][0]["id"],
        "key": "marketing",
        "tag": "event_guest",
        "request_id": asked.json()["id"],
    }


def test_a_stranger_finds_nothing_that_the_document_does_not_say(registry, tmp_path):
    assert judge(registry, tmp_path, "--max-examples", "15") > 800


def test_somebody_who_knows_a_member_finds_nothing_either(registry, tmp_path):
    options = ("--phases", "coverage,fuzzing", "--max-examples", "15")
    assert judge(registry, tmp_path, *options, known=known_ids(registry)) > 500


@pytest.mark.long
def test_a_patient_judge_finds_nothing_either(registry, tmp_path):
    assert judge(registry, tmp_path, "--max-examples", "400") > 5_000
    assert judge(registry, tmp_path, "--max-examples", "400", known=known_ids(registry)) > 5_000
