"""Tests of the files around the library: what is installed, and the commands people type."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import papermill.cli
import pytest
import torch
import typer.main
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bsglib import cli

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
TARGETS = ("help", "report", "test", "check", "lab", "bench", "lint", "lock", "clean")
SHELLS = {"", "sh", "bash", "shell", "console"}
# Other people's programs: the files they name must exist, their options are not looked at.
OTHERS = set("cd conda cp export git jupyter jupytext pip pytest python torchrun".split())


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def make(*arguments, **variables):
    """Run make without the variables by which an outer `make test` would reach it."""
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment |= variables
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


# Dependencies: pyproject.toml, environment.yml, requirements.lock


def lock_lines():
    lines = read("requirements.lock").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_environment_yml_lists_the_dependencies_of_pyproject():
    environment = yaml.safe_load(read("environment.yml"))
    *conda, pip = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert conda == ["python" + PROJECT["requires-python"], "pip"]
    assert pip["pip"] == [*sorted(DEPENDENCIES), "--editable ."]


def imported(path):
    """Return the packages, not Python's own, that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module)
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", ["bsglib", "notebooks", "tests", "benchmarks", ".ci"])
def test_what_is_imported_is_declared(folder):
    declared = {canonicalize_name(Requirement(text).name) for text in DEPENDENCIES}
    files = [p for p in sorted((ROOT / folder).rglob("*.py")) if "peers" not in p.parts]
    own = {"bsglib", "benchmarks", *(path.stem for path in files)}
    distributions = packages_distributions()
    missing = {
        (str(path.relative_to(ROOT)), name)
        for path in files
        for name in imported(path) - own
        if not declared & {canonicalize_name(each) for each in distributions.get(name, [])}
    }
    assert files and not missing


def test_every_dependency_has_a_lower_bound_that_the_lock_meets():
    locked = {}
    for line in lock_lines():
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        locked[canonicalize_name(requirement.name)] = (pin.version, requirement.marker)
    for text in DEPENDENCIES:
        requirement = Requirement(text)
        version, marker = locked[canonicalize_name(requirement.name)]
        assert [each.operator for each in requirement.specifier] == [">="], text
        assert requirement.specifier.contains(version), f"{text}: locked at {version}"
        assert marker is None, f"{text} is locked for one platform only"


# Version and licence


def test_every_file_of_the_package_that_is_no_module_is_package_data():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    package, patterns = ROOT / "bsglib", setup["setuptools"]["package-data"]["bsglib"]
    taken = {path for pattern in patterns for path in package.glob(pattern)}
    others = {path for path in package.rglob("*.*") if path.suffix not in {".py", ".pyc"}}
    assert others and not {path for path in others if path.is_file()} - taken


def test_version_is_the_same_everywhere():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == PROJECT["version"]
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest and newest[1] == PROJECT["version"]


# Makefile and CI


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_parses_and_is_in_the_help(target):
    parsed = make("-n", target)
    assert parsed.returncode == 0, parsed.stderr
    assert re.search(rf"^  {target}\t.+\(.+\)$", make("help").stdout, re.MULTILINE)


PYTHON = """#!/bin/sh
case "$*" in
  *get_cpu_capability*) exec {python} "$@" ;;
  *--nbval*)
    test -d "$BSG_STORE" || exit 1
    echo "$BSG_STORE ${{ATEN_CPU_CAPABILITY-own}}" >> compared
    test "${{ATEN_CPU_CAPABILITY-own}}" != "$WRONG" ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A folder with our Makefile and an environment whose Python writes down how it is called."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text(read(name), encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.py").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    (tmp_path / ".venv" / "installed").write_text(f"{tmp_path}\n")
    return tmp_path


def compared(project):
    """Return the store and the processor of each comparison of notebooks."""
    return [line.split() for line in (project / "compared").read_text().splitlines()]


@pytest.mark.slow
def test_make_test_compares_notebooks_in_an_empty_store_for_each_processor(project):
    assert make("-C", str(project), "test").returncode == 0
    stores, processors = zip(*compared(project), strict=True)
    older = {"AVX512": ("avx2",), "AVX2": ("default",)}
    assert processors == ("own", *older.get(torch.backends.cpu.get_cpu_capability(), ()))
    assert len(set(stores)) == len(stores) and not any(Path(store).exists() for store in stores)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["own", "avx2", "default"])
def test_make_test_fails_where_a_notebook_differs_on_one_processor(project, wrong):
    failed = make("-C", str(project), "test", WRONG=wrong).returncode != 0
    assert failed == (wrong in dict(compared(project)).values())
    assert failed != (project / ".venv" / "tested").exists()


# Commands in README.md


def commands(markdown):
    """Return every command, as a list of words, in the shell blocks of a Markdown text."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE):
        if language not in SHELLS:
            continue
        lines = block.replace("\\\n", " ").splitlines()
        if language == "console":  # the other lines are output
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = []
            for word in [*lexer, ";"]:
                if set(word) <= set("&|;"):
                    found += [words] if words else []
                    words = []
                elif words or not re.match(r"\w+=", word):  # BSG_STORE=… stands before a command
                    words.append(word)
    return found


def parse_make(words):
    parsed = make("-n", *words)
    assert parsed.returncode == 0, parsed.stderr


def parse_click(command, words, parent=None):
    """Parse the words as the command would, running nothing; follow subcommands."""
    try:
        context = command.make_context(command.name, list(words), parent=parent)
    except RuntimeError as stop:  # --help and --version end so, in click and in typer's own copy
        if getattr(stop, "exit_code", None) == 0:
            return
        raise
    if hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        assert rest, f"{command.name} needs a subcommand"
        _, subcommand, rest = command.resolve_command(context, rest)
        parse_click(subcommand, rest, context)


PARSERS = {
    "make": parse_make,
    "bsg": lambda words: parse_click(typer.main.get_command(cli.commands), words),
    "papermill": lambda words: parse_click(papermill.cli.papermill, words),
}


def check_command(words, copied=()):
    """Parse a command, and look for the files that it reads.

    `copied` holds the files that a `cp` before it has made.
    """
    program, *arguments = words
    if program in PARSERS:
        PARSERS[program](arguments)
        targets = [word for word in arguments if not re.match(r"-|\w+=", word)]
        assert program != "make" or set(targets) <= set(TARGETS), targets
    else:
        assert program in OTHERS, f"unknown command {program!r}: add it to OTHERS, or correct it"
    read_only = arguments[:-1] if program == "cp" else arguments
    if program == "papermill":
        written = [word for word in arguments if word.endswith(".ipynb")][1:2]
        read_only = [word for word in arguments if word not in written]
    for word in read_only:
        if word.endswith((".ipynb", ".py", ".toml", ".txt", ".lock", ".yaml", ".yml")):
            assert word in copied or (ROOT / word).is_file(), (
                f"README.md names {word}: no such file"
            )


def readme_commands():
    return commands(read("README.md")) if (ROOT / "README.md").is_file() else []


def test_readme_shows_the_two_commands_and_the_tools():
    shown = readme_commands()
    assert ["make", "report"] in shown and ["make", "test"] in shown
    assert set(PARSERS) <= {words[0] for words in shown}


@pytest.mark.parametrize("number", range(len(readme_commands())))
def test_readme_command_parses(number):
    shown = readme_commands()
    copied = {words[-1] for words in shown[:number] if words[0] == "cp"}
    check_command(shown[number], copied)
