"""Tests of bsglib's structure: imports flow one way, and some words stay where they belong."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bsglib

PACKAGE = Path(bsglib.__file__).parent
LEVELS = ("pieces",), ("data",), ("runs",), ("studies", "figures"), ("pages",), ("cli",)
PLACE = {name: place for place, level in enumerate(LEVELS) for name in level}
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
MODULES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}


def level(module: str) -> str:
    """The package or role of a module; what lies on the first level are the pieces."""
    name = module.split(".")[1]
    return name if name in PLACE else "pieces"


def own_imports(source: str) -> set[str]:
    """The modules of bsglib that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("bsglib.")} - {"bsglib.__version__"}


def pointing_back(own: str, source: str) -> set[str]:
    """The imports of a module on some level that are of another one and not below it."""
    others = {name: level(name) for name in own_imports(source)}
    return {n for n, other in others.items() if other != own and PLACE[other] >= PLACE[own]}


@pytest.mark.parametrize("module", MODULES)
def test_no_import_points_back(module):
    if module != "bsglib.__init__":
        assert pointing_back(level(module), MODULES[module].read_text()) == set()


def test_no_imports_run_in_a_circle():
    graph = {}
    for module, path in MODULES.items():
        names = own_imports(path.read_text())
        known = (n if n in MODULES else n.rpartition(".")[0] for n in names)
        graph[module] = {f"{n}.__init__" if f"{n}.__init__" in MODULES else n for n in known}
    assert list(TopologicalSorter(graph).static_order())


def modules_imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom)}


def test_what_is_read_off_the_runs_knows_nothing_of_the_claims():
    files = [f for f in PACKAGE.glob("studies/*/*.py") if f.stem in ("derived", "tables")]
    assert len(files) >= 4
    for path in files:
        assert f"bsglib.studies.{path.parent.name}.claims" not in modules_imported(path), path


def test_kinds_of_data_sets_do_not_import_what_loads_them():
    files = set(PACKAGE.glob("data/*.py")) - {PACKAGE / "data" / "__init__.py"}
    assert len(files) >= 2
    for path in files:
        assert "bsglib.data" not in modules_imported(path), path


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_command_line_prints(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not prints or path.name == "cli.py"


def test_the_kind_of_device_is_named_in_one_place():
    assert [n for n, p in zip(NAMES, FILES, strict=True) if "cuda" in p.read_text()] == [
        "runtime.py"
    ]


def test_every_test_file_names_its_module_in_its_first_line():
    for path in Path(__file__).parent.glob("test_*.py"):
        assert path.read_text().startswith('"""Tests of '), path.name
