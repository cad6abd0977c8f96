import csv
import os
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import InvalidRequestError
from kernel.i18n import Language
from policies import (
    BasisKind,
    Evidence,
    FieldOmission,
    IndexKind,
    MaskRule,
    Status,
    Storage,
    check,
    load_pack,
)
from policies.layers import PACKAGED, canonical_text

SHARED = Path(os.environ.get("YINYOM_SHARED", Path(__file__).parents[3] / "shared"))
# What Taiwan's readings call otherwise than the other jurisdictions do.
COMMON = {
    "law": "legal_obligation",
    "academic": "archive_research_statistics",
    "public_interest": "public_task",
}


def test_marketing_by_sms_discloses_the_phone_and_neither_email_nor_birth_date(pack):
    marketing = pack.purposes["marketing"]

    assert marketing.fields_for("sms") == {"given_name", "language", "phone"}
    assert marketing.omission("phone", "sms") is None
    assert marketing.omission("email", "sms") is FieldOmission.NOT_IN_CHANNEL
    assert marketing.omission("birth_date", "sms") is FieldOmission.NOT_IN_PURPOSE


def test_push_needs_no_contact_field(pack):
    assert pack.purposes["marketing"].fields_for("push") == {"given_name", "language"}


@pytest.mark.parametrize(
    ("purpose", "channel", "reason"),
    [
        ("marketing", None, "channel_required"),
        ("marketing", "fax", "channel_unknown"),
        ("analytics", "sms", "channel_not_applicable"),
    ],
)
def test_a_channel_that_does_not_fit_the_purpose_is_an_invalid_request(
    pack, purpose, channel, reason
):
    with pytest.raises(InvalidRequestError) as refused:
        pack.purposes[purpose].fields_for(channel)

    assert refused.value.reason == reason
    assert [problem.pointer for problem in refused.value.errors] == ["/channel"]


def test_no_purpose_discloses_more_than_its_fields(pack):
    for purpose in pack.purposes.values():
        assert set(purpose.disclosable) == set(purpose.channels or [None])
        for fields in purpose.disclosable.values():
            assert fields <= purpose.fields


def test_no_channel_discloses_the_contact_field_of_another(pack):
    contacts = {channel.contact_field for channel in pack.channels.values()} - {None}
    for purpose in pack.purposes.values():
        for channel in purpose.channels:
            own = pack.channels[channel].contact_field
            assert purpose.fields_for(channel) & contacts == ({own} if own else set())


def test_the_four_purposes_stand_on_their_bases(pack):
    bases = {key: set(p.basis.values()) | {p.default_basis} for key, p in pack.purposes.items()}

    assert bases["membership"] == {BasisKind.CONTRACT}
    for key in ("marketing", "profiling", "analytics"):
        assert bases[key] == {BasisKind.CONSENT}
        assert not pack.purposes[key].necessary_for_service


def test_analytics_and_profiling_see_no_identity_or_contact(pack):
    for key in ("analytics", "profiling"):
        categories = {pack.fields[field].category for field in pack.purposes[key].fields}
        assert categories == {"demographic", "loyalty"}


def test_only_the_five_identifiers_are_indexed_and_all_of_them_sealed(pack):
    indexed = {key: field for key, field in pack.fields.items() if field.index}

    assert {field.index for field in indexed.values()} == set(IndexKind)
    assert all(field.storage is Storage.SEALED for field in indexed.values())


def test_plain_fields_are_the_pseudonymous_ones(pack):
    plain = {key for key, field in pack.fields.items() if field.storage is Storage.PLAIN}

    assert plain == {
        "tier",
        "points_balance",
        "branch",
        "activity_class",
        "tags",
        "coupons",
    }
    assert {key for key, field in pack.fields.items() if field.mask is MaskRule.NONE} == plain


def test_every_number_of_law_has_source_status_evidence_and_unit(pack):
    for jurisdiction in pack.jurisdictions.values():
        facts = [
            jurisdiction.adult_from,
            *(tier.fact for tier in jurisdiction.minor_tiers),
            *jurisdiction.dsar.values(),
            *jurisdiction.retention.values(),
        ]
        assert len(facts) >= 8
        assert all(fact.source for fact in facts)
        assert all(fact.unit for fact in facts if isinstance(fact.value, int))


def test_a_number_never_checked_says_so(pack):
    thai = pack.jurisdictions["TH"]

    assert thai.dsar["rectification"].evidence is Evidence.MEMORY
    assert thai.dsar["rectification"].status is Status.CONSERVATIVE_DEFAULT
    assert thai.dsar["rectification"].unverified
    assert not thai.dsar["access"].unverified
    assert not thai.minors_unverified


def test_the_numbers_are_those_that_were_read(pack):
    yaml = pytest.importorskip("yaml", reason="PyYAML compares the pack with the readings")
    if not (SHARED / "law").is_dir():
        pytest.skip(f"the readings of law are not at {SHARED}/law")
    for code in ("TH", "EU", "TW"):
        read = yaml.safe_load((SHARED / "law" / f"{code.lower()}.yaml").read_text("utf-8"))
        pack_dsar = pack.jurisdictions[code].dsar
        for key, fact in pack_dsar.items():
            source = read["dsar"][key]
            value = source["v"]
            assert fact.value == value, key
            assert (fact.unit, fact.start) == (source.get("u"), source.get("from")), key
            standing = source.get(
                "st", Status.IN_FORCE
            )  # the readings leave it out for law in force
            assert (fact.status, fact.evidence) == (standing, source["ev"]), key
        bases = {COMMON.get(b["id"], b["id"]): b["sec"] for b in read["lawful_bases"]}
        known = pack.jurisdictions[code].lawful_bases
        assert {kind.value: basis.section for kind, basis in known.items()} == bases


def test_the_ages_are_those_that_were_read(pack):
    yaml = pytest.importorskip("yaml", reason="PyYAML compares the pack with the readings")
    if not (SHARED / "law").is_dir():
        pytest.skip(f"the readings of law are not at {SHARED}/law")
    for code in ("TH", "TW"):
        read = yaml.safe_load((SHARED / "law" / f"{code.lower()}.yaml").read_text("utf-8"))
        mine = pack.jurisdictions[code]
        assert mine.adult_from.value == read["minors"]["majority"]["v"]
        tiers = [(t.max_age_inclusive, t.who.value) for t in mine.minor_tiers]
        assert tiers == [
            (tier["max_age_inclusive"], tier["who"].replace("_plus_", "_with_"))
            for tier in read["minors"]["tiers"]
        ]


def test_purposes_speak_the_data_privacy_vocabulary(pack):
    table = SHARED / "vectors" / "dpv" / "purposes.csv"
    if not table.is_file():
        pytest.skip(f"the DPV terms are not at {table}")
    with table.open(encoding="utf-8") as file:
        terms = {row["iri"] for row in csv.DictReader(file) if row["type"] == "class"}

    assert {purpose.dpv_iri for purpose in pack.purposes.values()} <= terms


def test_pseudonym_keys_end_within_ninety_days(pack):
    assert pack.pseudonym_key_lifetime.unit == "calendar_days"
    assert 0 < pack.pseudonym_key_lifetime.value <= 90


def test_fiscal_data_has_a_period_in_each_jurisdiction(pack):
    assert {code: f.value for code, f in pack.retention_classes["fiscal"].period.items()} == {
        "TH": 5,
        "EU": 10,
        "TW": 5,
    }
    assert not pack.retention_classes["ordinary"].period


def test_nobody_is_auditor_and_dpo_or_admin(pack):
    assert pack.exclusive_roles == {
        frozenset({"auditor", "dpo"}),
        frozenset({"auditor", "admin"}),
    }


def test_an_overlay_replaces_a_key_and_leaves_its_neighbours(pack, overlay):
    mine = load_pack(overlay({"purposes.toml": '[purposes.analytics]\nfields = ["tier"]\n'}))

    assert mine.purposes["analytics"].fields == {"tier"}
    assert mine.purposes["analytics"].title == pack.purposes["analytics"].title
    assert mine.purposes["marketing"] == pack.purposes["marketing"]


def test_an_overlay_may_add_a_jurisdiction_with_its_bases(overlay):
    law = (PACKAGED / "jurisdictions/EU.toml").read_text("utf-8").replace('"EU"', '"XA"')
    bases = "".join(
        f'[purposes.{key}.lawful_basis]\nXA = "{basis}"\n'
        for key, basis in {
            "membership": "contract",
            "marketing": "consent",
            "profiling": "consent",
            "analytics": "consent",
        }.items()
    )
    periods = "".join(
        f'[classes.{key}.period]\nXA = "{period}"\n'
        for key, period in {"fiscal": "books", "evidence": "decision_record"}.items()
    )

    mine = load_pack(
        overlay({"jurisdictions/XA.toml": law, "purposes.toml": bases, "retention.toml": periods})
    )

    assert mine.jurisdictions["XA"].adult_from.value == 16


def test_a_legitimate_interest_with_its_assessment_loads(overlay):
    balanced = (
        f'[purposes.analytics]\nassessment = "sha256:{"a" * 64}"\n'
        '[purposes.analytics.lawful_basis]\nEU = "legitimate_interest"\n'
    )

    mine = load_pack(overlay({"purposes.toml": balanced}))

    assert mine.purposes["analytics"].basis["EU"] is BasisKind.LEGITIMATE_INTEREST


def test_a_text_is_given_in_the_language_asked(pack):
    title = pack.purposes["marketing"].title

    assert title.in_language(Language.TH) == "ข่าวและโปรโมชัน"
    assert title.in_language(Language.EN) == "News and offers"
    assert title.in_language(Language.ZH_HANT) == "消息與優惠"


def test_only_marketing_is_channelled(pack):
    assert [key for key, purpose in pack.purposes.items() if purpose.channelled] == ["marketing"]


def test_a_pack_cannot_be_changed_after_loading(pack):
    with pytest.raises(TypeError):
        pack.purposes["marketing"] = None
    with pytest.raises(AttributeError):
        pack.purposes["marketing"].fields = frozenset()


def test_the_digest_is_the_same_for_the_same_pack(pack):
    assert load_pack().digest == pack.digest
    assert pack.digest.startswith("sha256:")
    assert len(pack.digest) == len("sha256:") + 64


def test_the_digest_does_not_depend_on_line_ends_marks_or_composition(overlay):
    plain = '[purposes.analytics.title]\nen = "Caf\u00e9"\n'
    dressed = b"\xef\xbb\xbf" + plain.replace("\u00e9", "e\u0301").replace("\n", "\r\n").encode()

    first = load_pack(overlay({"purposes.toml": plain})).digest
    second = load_pack(overlay({"purposes.toml": dressed})).digest

    assert first == second


def test_the_digest_moves_with_every_file(pack, overlay):
    digests = {pack.digest}
    for path, content in {
        "purposes.toml": "# nothing\n",
        "fields.toml": "# nothing\n",
        "roles/policy.csv": "p, clerk, main, identity, view_masked, *, deny\n",
    }.items():
        digests.add(load_pack(overlay({path: content})).digest)

    assert len(digests) == 4


@given(st.binary(max_size=200))
def test_canonical_text_is_its_own_canonical_text(raw):
    try:
        text = canonical_text(raw)
    except UnicodeDecodeError:
        return
    assert canonical_text(text.encode()) == text
    assert text.endswith("\n")
    assert "\r" not in text


def test_the_packaged_pack_has_no_finding():
    assert check() == []


def test_loading_parses_each_file_once(monkeypatch):
    parsed = []
    parse = tomllib.loads
    monkeypatch.setattr(tomllib, "loads", lambda text: parsed.append(text) or parse(text))
    load_pack()
    texts = [text for text in parsed if text]  # a layer that lacks a file reads as an empty one
    assert texts
    assert len(texts) == len(set(texts))


def test_importing_policies_does_not_import_casbin():
    code = "import sys, policies; policies.load_pack(); sys.exit('casbin' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
    assert run.returncode == 0


def test_a_moment_before_publication_has_no_notice(pack):
    with pytest.raises(Exception, match="no notice of this key is in force") as refused:
        pack.current_notice("marketing", "th", datetime(2020, 1, 1, tzinfo=UTC))
    assert refused.value.status == 404
