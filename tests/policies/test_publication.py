import json
from datetime import UTC, datetime

import pytest

from kernel import NotFoundError
from policies import public_purpose, public_purposes

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LANGUAGES = {"th", "en", "zh-Hant"}


def test_nothing_is_published_before_its_notice_is_in_force(pack):
    with pytest.raises(NotFoundError):
        public_purpose(pack, pack.purposes["marketing"], datetime(2020, 1, 1, tzinfo=UTC))


def test_every_purpose_says_everything_in_every_language(pack):
    for shown in public_purposes(pack, NOW):
        for key in ("title", "summary", "recipients", "withdrawal_consequence"):
            assert set(shown[key]) == LANGUAGES
            assert all(shown[key].values())
        assert set(shown["notice"]["revisions"]) == LANGUAGES
        assert set(shown["basis"]) == {"TH", "EU", "TW", "default"}
        json.dumps(shown)


def test_marketing_is_published_with_its_channels_sections_and_words(pack):
    shown = public_purpose(pack, pack.purposes["marketing"], NOW)

    assert [channel["key"] for channel in shown["channels"]] == ["sms", "email", "line", "push"]
    assert shown["channels"][0]["fields"] == ["given_name", "phone", "language"]
    assert shown["basis"]["TH"]["section"] == "s.19"
    assert "section" not in shown["basis"]["default"]
    assert shown["dpv"] == "https://w3id.org/dpv#DirectMarketing"
    revision = shown["notice"]["revisions"]["th"]
    assert pack.notice_of(revision).lang == "th"
    assert pack.notice_of(revision).key == "marketing"


def test_the_published_fields_are_the_fields_of_the_purpose(pack):
    for shown in public_purposes(pack, NOW):
        assert {field["key"] for field in shown["fields"]} == pack.purposes[shown["key"]].fields
