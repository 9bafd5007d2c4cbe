"""Tests of bsglib's structure: imports flow one way, and some words stay where they belong."""

import ast
from pathlib import Path

import pytest

import bsglib

PACKAGE = Path(bsglib.__file__).parent
ORDER = (
    "names runtime params data models schedules sam weights evaluate outcomes store local "
    "graphs stacked steps train timing parallel sharpness gradients landscape measures sweep "
    "stats claims papers queue estimates style show plots contours drawings surface3d explorer "
    "provenance themes report index cli"
).split()
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


def layer(path: Path) -> str:
    """The name in ORDER under which a file stands; the package itself is the bottom."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_imports(source: str) -> set[str]:
    """The layers of bsglib that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {p[1] for p in parts if p[0] == "bsglib" and len(p) > 1 and p[1] in ORDER}
    return found


def pointing_back(name: str, source: str) -> set[str]:
    allowed = ORDER[: ORDER.index(name)]
    return {other for other in own_imports(source) if other not in allowed and other != name}


def test_every_module_has_its_place():
    assert {layer(path) for path in FILES} - {"__init__"} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_import_points_back(path):
    source = path.read_text()
    if layer(path) == "__init__":
        assert own_imports(source) <= {"runtime"}
    else:
        assert pointing_back(layer(path), source) == set()


def modules_imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom)}


def test_what_is_read_off_the_runs_knows_nothing_of_the_claims():
    files = [f for f in PACKAGE.glob("papers/*/*.py") if f.stem in ("readings", "views")]
    assert len(files) >= 4
    for path in files:
        assert f"bsglib.papers.{path.parent.name}.claims" not in modules_imported(path), path


def test_kinds_of_data_sets_do_not_import_what_loads_them():
    files = set(PACKAGE.glob("data/*.py")) - {PACKAGE / "data" / "__init__.py"}
    assert len(files) >= 2
    for path in files:
        assert "bsglib.data" not in modules_imported(path), path


@pytest.mark.parametrize(
    ("source", "back"),
    [
        ("from bsglib.train import train", {"train"}),
        ("from bsglib import sweep, params", {"sweep"}),
        ("import bsglib.claims as c", {"claims"}),
        ("def f():\n    from bsglib.papers.surlemont import study", {"papers"}),
        ("from bsglib.weights import flatten\nfrom bsglib import params\nimport torch", set()),
    ],
)
def test_an_import_that_points_back_would_be_found(source, back):
    assert pointing_back("evaluate", source) == back


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_command_line_prints(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not prints or path.name == "cli.py"


def test_the_kind_of_device_is_named_in_one_place():
    assert [n for n, p in zip(NAMES, FILES, strict=True) if "cuda" in p.read_text()] == [
        "runtime.py"
    ]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_says_its_purpose_first(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_function_is_named_get_do_or_compute_something(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    names = [n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    bad = ("get_", "do_", "compute_", "my_", "new_")
    assert [name for name in names if name.lstrip("_").startswith(bad)] == []


def test_every_test_file_names_its_module_in_its_first_line():
    for path in Path(__file__).parent.glob("test_*.py"):
        assert path.read_text().startswith('"""Tests of '), path.name
