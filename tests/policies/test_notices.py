import hashlib
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest

from kernel import NotFoundError
from kernel.i18n import Language
from policies import check, check_succession, load_pack
from policies.layers import canonical_text, text_hash

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEYS = ("marketing", "profiling", "analytics", "membership")


def second_version(
    words: str, effective_from: str, change: str | None = "informational"
) -> dict[str, str]:
    texts = {lang.value: f"# {words} {lang.value}\n" for lang in Language}
    revisions = "".join(
        f'{lang} = "{text_hash(canonical_text(text.encode()))}"\n' for lang, text in texts.items()
    )
    return {
        **{f"notices/marketing/2.{lang}.md": text for lang, text in texts.items()},
        "notices/marketing/notice.toml": (
            f"[versions.2]\neffective_from = {effective_from}\n"
            + (f'change = "{change}"\n' if change else "")
            + f"[versions.2.revisions]\n{revisions}"
        ),
    }


def test_an_unknown_notice_is_not_found(pack):
    with pytest.raises(NotFoundError):
        pack.current_notice("gossip", Language.TH, NOW)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("lang", Language)
def test_every_notice_is_published_in_every_language(pack, key, lang):
    notice = pack.current_notice(key, lang, NOW)

    assert (notice.key, notice.lang, notice.version) == (key, lang, "1")
    assert len(notice.text) > 200


def test_a_revision_is_the_hash_of_exactly_the_words_shown(pack):
    for notices in pack.notices.values():
        for notice in notices:
            digest = hashlib.sha256(notice.text.encode("utf-8")).hexdigest()
            assert notice.revision == f"sha256:{digest}"
            assert notice.text == unicodedata.normalize("NFC", notice.text)
            assert notice.text.endswith("\n")
            assert not notice.text.endswith("\n\n")
            assert "\r" not in notice.text


def test_consent_notices_say_that_no_answer_means_no(pack):
    said = {
        Language.TH: "ไม่ตอบ ถือว่าไม่อนุญาต",
        Language.EN: "No answer means no.",
        Language.ZH_HANT: "未作答視為不同意。",
    }
    for key in ("marketing", "profiling", "analytics"):
        for lang, words in said.items():
            assert words in pack.current_notice(key, lang, NOW).text


def test_texts_keep_the_voice(pack):
    for notices in pack.notices.values():
        for notice in notices:
            for word in ("ท่าน", "ค่ะ", "ครับ", "你"):
                assert word not in notice.text.replace("เท่านั้น", "")


def test_any_published_wording_is_found_by_its_revision(pack):
    for notices in pack.notices.values():
        for notice in notices:
            assert pack.notice_of(notice.revision) == notice
    assert pack.notice_of("sha256:unknown") is None


def test_a_new_version_comes_into_force_at_its_hour_and_the_old_words_stay(pack, overlay):
    files = second_version("Two", "2026-12-01T00:00:00+07:00")
    mine = load_pack(overlay(files))
    start = datetime.fromisoformat("2026-12-01T00:00:00+07:00")

    assert mine.current_notice("marketing", Language.EN, NOW).version == "1"
    before = mine.current_notice("marketing", Language.EN, start - timedelta(seconds=1))
    assert before.version == "1"
    assert mine.current_notice("marketing", Language.EN, start).version == "2"
    old = pack.current_notice("marketing", Language.EN, NOW)
    assert mine.notice_of(old.revision) == old


def test_succession_refuses_words_that_were_changed_in_place(overlay):
    before = load_pack(overlay(second_version("Two", "2026-06-01T00:00:00+07:00")))
    after = load_pack(overlay(second_version("Other", "2026-06-01T00:00:00+07:00")))

    findings = check_succession(before, after)

    assert {finding.file for finding in findings} == {
        f"notices/marketing/2.{lang.value}.md" for lang in Language
    }


@pytest.mark.parametrize("change", [None, "first", "small"])
def test_a_new_version_that_does_not_say_what_it_changes_is_refused(overlay, change):
    findings = check(overlay(second_version("Two", "2026-06-01T00:00:00+07:00", change)))

    assert {(f.file, f.key) for f in findings} == {
        ("notices/marketing/notice.toml", "versions.2.change")
    }


def test_only_a_material_version_outdates_the_words_before_it(pack, overlay):
    start = "2026-12-01T00:00:00+07:00"
    old = pack.current_notice("marketing", Language.EN, NOW).revision
    for change in ("cosmetic", "informational"):
        assert load_pack(overlay(second_version("Two", start, change))).notice_of(old) == (
            pack.notice_of(old)
        )
    mine = load_pack(overlay(second_version("Two", start, "material")))
    moment_us = int(datetime.fromisoformat(start).timestamp()) * 1_000_000
    for notice in mine.notices["marketing"]:
        assert notice.outdated_us == (moment_us if notice.version == "1" else None)


def test_succession_refuses_a_material_change_that_is_made_cosmetic_afterwards(overlay):
    start = "2026-06-01T00:00:00+07:00"
    before = load_pack(overlay(second_version("Two", start, "material")))
    after = load_pack(overlay(second_version("Two", start, "cosmetic")))

    assert [finding.key for finding in check_succession(before, after)] == ["versions.2.change"]


def test_succession_allows_new_versions(pack, overlay):
    after = load_pack(overlay(second_version("Two", "2026-06-01T00:00:00+07:00")))

    assert check_succession(pack, after) == []
    assert len(check_succession(after, pack)) == len(Language)
