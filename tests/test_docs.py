"""Documents that point at something point at something that is there."""

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")],
    key=lambda file: file.as_posix(),
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SOURCE = re.compile(
    r"`((?:kernel|vault|audit|policies|consent|members|loyalty|disclosure|dsar|service)/[\w/]+\.py)`"
)
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def named(file):
    return file.relative_to(REPOSITORY).as_posix()


def read(path):
    return (REPOSITORY / path).read_text(encoding="utf-8")


def anchors(file):
    """Give the fragment of each heading, as the usual renderers make it."""
    text = FENCED.sub("", file.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in HEADING.findall(text)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document):
    broken = []
    for target in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        file = (document.parent / parts.path).resolve() if parts.path else document
        if not file.exists() or (parts.fragment and parts.fragment not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_source_file_that_is_named_exists(document):
    files = SOURCE.findall(document.read_text(encoding="utf-8"))
    assert [file for file in files if not (REPOSITORY / file).exists()] == []


def test_every_guard_test_of_the_promises_exists():
    guards = TEST.findall(read("docs/promises.md"))
    assert len(guards) > 20
    missing = [
        f"{file}::{name}"
        for file, name in guards
        if not (REPOSITORY / file).exists()
        or not re.search(rf"^\s*(async )?def {name}\(", read(file), re.MULTILINE)
    ]
    assert missing == []


def requirement_names(requirements):
    return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}


def table_of(heading):
    """Give the first column of the table under a heading of docs/dependencies.md."""
    text = read("docs/dependencies.md")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "requirements"),
    [
        ("At run time", PYPROJECT["project"]["dependencies"]),
        ("For tests (`[test]`)", PYPROJECT["project"]["optional-dependencies"]["test"]),
        ("For development (`[dev]`)", PYPROJECT["project"]["optional-dependencies"]["dev"]),
    ],
    ids=["core", "test", "dev"],
)
def test_every_dependency_has_its_reason_and_no_reason_outlives_its_dependency(
    heading, requirements
):
    assert table_of(heading) == requirement_names(requirements)


def test_the_lock_pins_every_dependency_and_asks_the_public_index_only():
    lock = tomllib.loads(read("uv.lock"))
    packages = {package["name"]: package for package in lock["package"]}
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = requirement_names(sum(extras.values(), PYPROJECT["project"]["dependencies"]))
    locked_for = {entry["name"] for entry in packages["yinyom"]["metadata"]["requires-dist"]}
    assert locked_for == wanted
    sources = {
        package["source"]["registry"] for name, package in packages.items() if name != "yinyom"
    }
    assert sources == {"https://pypi.org/simple"}
    files = [file for package in packages.values() for file in package.get("wheels", [])]
    assert {urlsplit(file["url"]).hostname for file in files} == {"files.pythonhosted.org"}
    assert all(file["hash"].startswith("sha256:") for file in files)


def test_every_decision_is_in_the_index():
    records = sorted(file.name for file in (REPOSITORY / "docs/adr").glob("[0-9]*.md"))
    linked = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", read("docs/adr/README.md"))
    assert linked == records
