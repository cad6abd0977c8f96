import csv
import runpy
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import phonenumbers
import pytest
from stdnum.th import pin

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "make_sample_members.py"
SAMPLE = ROOT / "service" / "sample" / "members_sample.csv"


@pytest.fixture(scope="module")
def script():
    sys.modules.pop("make_sample_members", None)
    return runpy.run_path(str(SCRIPT), run_name="make_sample_members")


@pytest.fixture(scope="module")
def lines():
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def rows(lines):
    header = lines[0]
    return [dict(zip(header, line, strict=True)) for line in lines[1:] if len(line) == len(header)]


def test_the_packaged_sample_is_what_the_script_makes(script, tmp_path, monkeypatch):
    again = tmp_path / "again.csv"
    monkeypatch.setattr(sys, "argv", ["make_sample_members.py", "--out", str(again)])

    script["main"]()

    assert again.read_bytes() == SAMPLE.read_bytes()


def test_another_seed_makes_other_people(script):
    assert script["make_rows"](1) != script["make_rows"](2)


def test_there_are_members_of_each_language(rows):
    languages = Counter(row["language"] for row in rows)

    assert len(rows) >= 330
    assert set(languages) == {"th", "zh-Hant", "en"}
    assert min(languages.values()) >= 50


def test_nobody_has_a_real_mail_address(rows):
    for row in rows:
        domain = row["email"].strip().lower().partition("@")[2]
        assert domain in {"", "example.com", "example.org", "@example.com"}


def test_phones_are_of_valid_form_and_from_the_reserved_looking_blocks(rows):
    valid = 0
    for row in rows:
        try:
            number = phonenumbers.parse(row["phone"].lstrip("'\u200b").removeprefix("โทร. "), "TH")
        except phonenumbers.NumberParseException:
            continue
        if not phonenumbers.is_valid_number(number):
            continue
        valid += 1
        national = str(number.national_number)
        assert national[2:5] == "000" if number.country_code == 66 else national[:4] == "9000"
    assert valid >= 300


def test_identity_numbers_fit_their_checksum_and_belong_to_no_province(rows):
    good = [
        number
        for row in rows
        if row["region"] == "TH" and pin.is_valid(number := row["national_id"].replace("-", ""))
    ]

    assert len(good) >= 60
    assert {number[:3] for number in good} == {"899"}


def test_families_share_phones_and_some_of_their_members_are_minors(rows):
    shared = Counter(row["phone"].strip().lstrip("'") for row in rows if row["phone"])
    minors = [row for row in rows if "2006-12-01" < row["birth_date"] < "2026-11-01"]

    assert sum(count > 1 for count in shared.values()) >= 5
    assert len(minors) >= 10
    assert all(row["phone"] and not row["email"] for row in minors)


def test_some_rows_are_bad_on_purpose(lines, rows):
    def dated(text: str) -> bool:
        try:
            return date.fromisoformat(text) <= date(2026, 11, 1)
        except ValueError:
            return False

    identifiers = ("phone", "email", "line_uid", "national_id")
    assert sum(len(line) != len(lines[0]) for line in lines) == 2
    assert sum(not any(row[key] for key in identifiers) for row in rows) == 3
    assert sum(bool(row["birth_date"]) and not dated(row["birth_date"]) for row in rows) == 3
    assert sum(count > 1 for count in Counter(map(tuple, lines)).values()) == 2
