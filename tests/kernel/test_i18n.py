"""Three languages, three calendars, and no page with a text missing."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.i18n import LANGUAGE_NAMES, Catalogue, Language, format_date, negotiate

TH, EN, ZH = Language.TH, Language.EN, Language.ZH_HANT


@pytest.fixture
def folder(tmp_path):
    """A catalogue that is complete: one key at the top, one in a table."""
    for language in Language:
        text = f'hello = "{language.value} {{name}}"\n[page]\ntitle = "{language.value} title"\n'
        (tmp_path / f"{language.value}.toml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("language", list(Language))
def test_a_catalogue_with_a_text_missing_in_one_language_is_refused(folder, language):
    file = folder / f"{language.value}.toml"
    file.write_text(file.read_text().replace("title =", "heading ="))
    with pytest.raises(ValueError, match=r"page\.heading, page\.title$"):
        Catalogue(folder)


def test_a_catalogue_without_one_of_the_languages_is_refused(folder):
    (folder / "zh-Hant.toml").unlink()
    with pytest.raises(FileNotFoundError):
        Catalogue(folder)


def test_an_unknown_key_is_an_error_and_not_an_empty_text(folder):
    catalogue = Catalogue(folder)
    assert not catalogue.has("page.footer")
    with pytest.raises(KeyError):
        catalogue.text(TH, "page.footer")


def test_texts_are_found_by_dotted_key_and_filled_with_values(folder):
    catalogue = Catalogue(folder)
    assert catalogue.has("page.title")
    assert catalogue.text(ZH, "page.title") == "zh-Hant title"
    assert catalogue.text(TH, "hello", name="{ใจดี}") == "th {ใจดี}"


@pytest.mark.parametrize(
    ("day", "thai", "english", "chinese"),
    [
        (date(2025, 3, 12), "12 มี.ค. 2568", "12 Mar 2025", "民國114年3月12日"),
        (date(2024, 2, 29), "29 ก.พ. 2567", "29 Feb 2024", "民國113年2月29日"),
        (date(1912, 1, 1), "1 ม.ค. 2455", "1 Jan 1912", "民國1年1月1日"),
        (date(1999, 12, 31), "31 ธ.ค. 2542", "31 Dec 1999", "民國88年12月31日"),
    ],
)
def test_a_date_is_written_as_its_readers_write_it(day, thai, english, chinese):
    assert format_date(day, TH) == thai
    assert format_date(day, EN) == english
    assert format_date(day, ZH) == chinese


@given(st.dates(min_value=date(1912, 1, 1)), st.sampled_from(Language))
def test_no_two_days_are_written_alike(day, language):
    written = format_date(day, language)
    other = day.replace(year=day.year - 1, day=min(day.day, 28)) if day.year > 1912 else day
    assert (format_date(other, language) == written) == (other == day)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, TH),
        ("", TH),
        ("fr, de;q=0.9", TH),
        ("en", EN),
        ("EN-gb", EN),
        ("zh-TW,zh;q=0.9,en;q=0.8", ZH),
        ("zh-Hant-HK", ZH),
        ("en;q=0.5, th;q=0.8", TH),
        ("en;q=0.8, zh;q=0.8", EN),  # the first of equals
        ("fr, en;q=0.1", EN),
        ("en;q=much, zh;q=0.1", ZH),
        ("*", TH),
        ("zh;q=0", TH),  # q=0 means: not this one
        ("en;q=0, zh;q=0.1", ZH),
    ],
)
def test_the_best_known_language_is_chosen(header, language):
    assert negotiate(header) is language


def test_the_default_is_what_the_caller_says():
    assert negotiate("fr", default=EN) is EN


@given(st.text(max_size=80))
def test_no_header_breaks_the_choice(header):
    assert negotiate(header) in Language


def test_each_language_is_named_in_itself():
    assert set(LANGUAGE_NAMES) == set(Language)
    assert LANGUAGE_NAMES[ZH] == "繁體中文"
