"""The rules of the house: layers, names, sizes, and two linters that no other tool has."""

import ast
import email
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
MOST_LINES = 500
# The verifier is one file so that a stranger can carry it away and read it whole.
ONE_FILE_ON_PURPOSE = {"audit/verify.py"}


def python_files() -> list[Path]:
    found = [file for room in ROOMS for file in (REPOSITORY / room).rglob("*.py")]
    assert found
    return sorted(found)


def name_of(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


# --- layers and names -----------------------------------------------------------------


def test_arrows_go_down_only_and_rooms_are_entered_by_their_doors():
    importlinter = pytest.importorskip("importlinter.cli", reason="install the extra [dev]")
    assert importlinter.lint_imports(str(REPOSITORY / "pyproject.toml"), no_cache=True) == 0


def test_every_room_is_in_every_list_that_names_the_rooms():
    tools = PYPROJECT["tool"]
    layers, *doors = tools["importlinter"]["contracts"]
    assert set(tools["importlinter"]["root_packages"]) == set(ROOMS)
    assert {room for layer in layers["layers"] for room in layer.split(" | ")} == set(ROOMS)
    assert set(tools["mypy"]["packages"]) == set(ROOMS)
    assert set(tools["coverage"]["run"]["source"]) == set(ROOMS)
    assert set(tools["deptry"]["known_first_party"]) == set(ROOMS)
    private = {module for door in doors for module in door["protected_modules"]}
    present = {
        f"{room}.{kind}"
        for room in ROOMS
        for kind in ("tables", "repository")
        if (REPOSITORY / room / f"{kind}.py").exists()
    }
    open_to_all = {"kernel.tables", "kernel.repository"}  # imports nobody, and is below all
    assert present - private - open_to_all == set()


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_else_brings_a_package_of_this_name(room):
    # Flat names could be taken by any distribution; then whoever is first on the path wins.
    assert room not in sys.stdlib_module_names
    others = set(importlib.metadata.packages_distributions().get(room, [])) - {"yinyom"}
    assert others == set()


def test_every_package_says_what_it_is():
    silent = [
        name_of(file)
        for file in python_files()
        if file.name == "__init__.py"
        and not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_file_hides_a_second_idea_behind_its_length():
    long = {
        name_of(file): count
        for file in python_files()
        if (count := len(file.read_text(encoding="utf-8").splitlines())) > MOST_LINES
        and name_of(file) not in ONE_FILE_ON_PURPOSE
    }
    assert long == {}


# --- linter: sealed columns -----------------------------------------------------------

# The rooms that may fetch ciphertext: its own repository, the sources it lends to the door,
# and the door. Whoever else selects it could one day open it without a decision.
MAY_SELECT_CELLS = re.compile(r"members/(repository/\w+|sources|tables)\.py|disclosure/.*\.py")
SEALED_TABLE = "member"
RAW_SELECT = re.compile(r"\bselect\b.*\bcells\b", re.IGNORECASE | re.DOTALL)


def sealed_selections(source: str) -> Iterator[int]:
    """Give the lines that touch the `cells` column, or select the whole sealed table."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Attribute(attr="c"), attr="cells"):
                yield node.lineno
            case ast.Subscript(value=ast.Attribute(attr="c"), slice=ast.Constant(value="cells")):
                yield node.lineno
            case ast.Call(func=ast.Name(id="select") | ast.Attribute(attr="select"), args=chosen):
                yield from (
                    one.lineno
                    for one in chosen
                    if isinstance(one, ast.Name) and one.id == SEALED_TABLE
                )
            case ast.Constant(value=str(text)) if RAW_SELECT.search(text):
                yield node.lineno


@pytest.mark.parametrize(
    "planted",
    [
        "select(member.c.cells)",
        "select(tables.member.c.cells.label('x'))",
        "select(member.c['cells'])",
        "select(member).where(member.c.id == bindparam('id'))",
        "sqlalchemy.select(member)",
        "text('SELECT id, cells FROM member')",
    ],
)
def test_the_linter_sees_a_sealed_column_selected(planted):
    assert list(sealed_selections(planted)) == [1]


def test_the_linter_lets_plain_columns_be_selected():
    assert not list(sealed_selections("select(member.c.id, member.c.brand, row['cells'])"))


def test_no_sealed_column_is_selected_outside_its_room():
    found = [
        f"{name_of(file)}:{line}"
        for file in python_files()
        if not MAY_SELECT_CELLS.fullmatch(name_of(file))
        for line in sealed_selections(file.read_text(encoding="utf-8"))
    ]
    assert found == []


# --- linter: persons in the log -------------------------------------------------------

LOG_METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log", "bind"}
LOGGER = re.compile(r"(^|_)log(ger)?$", re.IGNORECASE)
PERSONAL = re.compile(r"member|person|subject|guardian|contact|cells|payload|body|fields|row")


def is_logger(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return bool(LOGGER.search(name))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in {"get_logger", "bind"}
    return False


def is_built_or_personal(argument: ast.expr) -> bool:
    """Tell whether a value is put together in the call, or is an attribute of a person."""
    for node in ast.walk(argument):
        match node:
            case ast.JoinedStr() | ast.BinOp(op=ast.Mod() | ast.Add()):
                return True
            case ast.Call(func=ast.Attribute(attr="format" | "format_map" | "join")):
                return True
            case (
                ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name))
                | ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name))
                | ast.Name(id=name)
            ) if PERSONAL.search(name):
                return True
    return False


def telling_log_calls(source: str) -> Iterator[int]:
    """Give the lines of logger calls whose arguments may carry a person into the log."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LOG_METHODS
            and is_logger(node.func.value)
        ):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(map(is_built_or_personal, values)):
                yield node.lineno


@pytest.mark.parametrize(
    "planted",
    [
        'log.info(f"registered {name}")',
        'self._log.info("registered", reason=member.phone)',
        'logger.error("refused", reason="bad " + value)',
        'get_logger().warning("refused %s" % value)',
        'get_logger().warning("refused {}".format(value))',
        'log.info("seen", reason=row["phone"])',
        'log.info("seen", **member.fields)',
        'log.bind(person=person).info("seen")',
        'log.info("seen", error=str(self.member.email))',
        'log.info("seen", reason=", ".join(names))',
    ],
)
def test_the_linter_sees_a_person_in_a_log_call(planted):
    assert list(telling_log_calls(planted)) == [1]


@pytest.mark.parametrize(
    "harmless",
    [
        'log.info("request_served", status=response.status, route=route.path)',
        'log.error("job_failed", job=job.id, error=error.slug, count=done)',
        'notes.info(f"{member.name}")',
        "math.log(member.version)",
    ],
)
def test_the_linter_lets_codes_and_counts_be_logged(harmless):
    assert not list(telling_log_calls(harmless))


def test_no_person_is_handed_to_the_log():
    found = [
        f"{name_of(file)}:{line}"
        for file in python_files()
        for line in telling_log_calls(file.read_text(encoding="utf-8"))
    ]
    assert found == []


# --- the wheel ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; run make test")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("yinyom-*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_the_wheel_contains_everything_that_lies_in_a_room(wheel):
    # Templates, the policy pack, migrations, catalogues: what a page or a start needs must
    # come with `pip install`, whatever .gitignore says.
    lying_there = {
        name_of(file)
        for room in ROOMS
        for file in (REPOSITORY / room).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    packed = {name for name in wheel.namelist() if name.partition("/")[0] in ROOMS}
    assert packed == lying_there
    assert "policies/pack/purposes.toml" in packed
    assert any(name.startswith("service/migrations/versions/") for name in packed)


def test_the_wheel_brings_nothing_else_into_site_packages(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    (metadata_folder,) = tops - set(ROOMS)
    assert metadata_folder.endswith(".dist-info")


def test_the_wheel_names_its_licence_and_its_command(wheel):
    (folder,) = {name.partition("/")[0] for name in wheel.namelist()} - set(ROOMS)
    described = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert described["License-Expression"] == "Apache-2.0"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert b"yinyom = service.cli:main" in wheel.read(f"{folder}/entry_points.txt")
