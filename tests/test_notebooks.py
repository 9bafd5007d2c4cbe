"""Tests of notebooks/: anatomy, parameters, papermill, and that strict nbval compares."""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys

import jupytext
import nbformat
import pytest
import yaml
from conftest import TINY
from jupytext.cli import jupytext as jupytext_command

from bsglib.cli import STUDIES
from bsglib.pages import report
from bsglib.project import ROOT
from bsglib.runs.params import parse

IMPORTS = ast.Import, ast.ImportFrom
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SURLEMONT = ROOT / "notebooks" / "surlemont_sam.ipynb"  # whose study of a second is TINY
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def tagged(path, tag):
    return [c for c in code_cells(path) if tag in c.metadata.get("tags", [])]


def parameters_of(path):
    (cell,) = tagged(path, "parameters")
    namespace = {}
    exec(cell.source, namespace)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


def test_every_study_has_a_notebook_and_every_notebook_a_study():
    assert {path.stem for path in NOTEBOOKS} == set(STUDIES)


@each
def test_the_committed_outputs_are_those_of_one_fresh_run(path):
    cells = [cell for cell in code_cells(path) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not [o for o in outputs if o.output_type == "error"]
    assert not [o.text for o in outputs if o.get("name") == "stderr"]
    assert str(ROOT) not in path.read_text(), "no path of the machine it was run on"
    assert path.stat().st_size < 1_500_000


@each
def test_notebook_and_its_py_twin_hold_the_same_cells(path):
    twin = jupytext.read(path.with_suffix(".py"))
    ours = nbformat.read(path, as_version=4)
    shown = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in ours.cells]
    assert shown == [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in twin.cells]


@each
@pytest.mark.parametrize("edited", [".ipynb", ".py"])
def test_saving_in_jupyterlab_and_jupytext_sync_change_no_file(path, edited, tmp_path):
    names = [f"notebooks/{path.stem}{suffix}" for suffix in (".ipynb", ".py")]
    copied = ["jupytext.toml", *names]
    (tmp_path / "notebooks").mkdir()
    for name in copied:
        shutil.copy(ROOT / name, tmp_path / name)
    saved = tmp_path / f"notebooks/{path.stem}{edited}"
    jupytext_command(["--quiet", "--sync", str(saved)])
    manager = jupytext.TextFileContentsManager(root_dir=str(tmp_path))
    name = str(saved.relative_to(tmp_path))
    manager.save(manager.get(name, type="notebook"), name)
    for name in copied:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), name


@each
def test_the_parameters_cell_is_the_quick_profile(path):
    quick = yaml.safe_load((ROOT / "params" / path.stem / "quick.yaml").read_text())
    ours = parameters_of(path)
    assert ours == quick
    assert list(ours) == list(quick), "same order"
    assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in quick.items()}
    fields = STUDIES[path.stem].parameters.model_fields
    assert set(ours) == {name for name, field in fields.items() if field.is_required()}


@pytest.mark.parametrize("file", sorted((ROOT / "params").glob("*/*.yaml")), ids=str)
def test_every_parameter_file_fits_its_study(file):
    quick = yaml.safe_load((file.parent / "quick.yaml").read_text())
    study = STUDIES[file.parent.name]
    parameters = parse(quick | yaml.safe_load(file.read_text()), study.parameters)
    assert parameters.profile == file.stem
    entries = study.design(parameters)
    assert len({(entry.key, entry.arm) for entry in entries}) == len(entries), "none twice"
    assert all(e.config.batch_size <= (e.config.train_size or 10**9) for e in entries)


@each
def test_cells_are_short(path):
    lines = [len(cell.source.splitlines()) for cell in code_cells(path)]
    assert statistics.median(lines) <= 12
    assert sorted(lines)[-2] <= 25, "only the parameters cell may be longer"


@each
def test_no_name_of_a_cell_hides_a_parameter(path):
    given = set(STUDIES[path.stem].parameters.model_fields)
    cells = (c.source for c in code_cells(path)[1:])  # after the parameters cell
    trees = [node for source in cells for node in ast.walk(ast.parse(source))]
    imported = {a.asname or a.name for n in trees if isinstance(n, IMPORTS) for a in n.names}
    assert not imported & given, "papermill's value would be lost"


@each
def test_prose_holds_no_digits_outside_quotations(path):
    reference = (
        r"((equation|metric|section|figure|panel)s?|seed|et al\.) \(?[\d.]+( (and|to) [\d.]+)?"
        r"|\b[FC][1-4]\b"  # names of networks
    )
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"\$\$.*?\$\$|\$.*?\$", "", cell.source, flags=re.S)
            for line in text.splitlines():
                if not line.startswith((">", "#")):
                    assert not re.search(r"\d", re.sub(reference, "", line)), line


@each
def test_every_claim_is_judged_in_the_notebook(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    figures = re.findall(
        r'"([\w-]+)"', " ".join(re.findall(r"verdicts\(figure=(.*?)\)", source, re.S))
    )
    assert len(set(figures)) == len(figures)
    for claim in STUDIES[path.stem].claims:
        assert claim.figure in figures or source.count(f'"{claim.id}"') == 1, claim.id
        assert f'"{claim.figure}"' in source, claim.id


@pytest.mark.slow
def test_papermill_refuses_a_misspelt_name_and_a_number_that_yaml_reads_as_text(tmp_path):
    (tmp_path / "typo.yaml").write_text("epoch: 3\nsgd_lr: 1e-3\n")
    command = [sys.executable, "-m", "papermill", str(SURLEMONT), "out.ipynb", "-f", "typo.yaml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode != 0
    assert "unknown parameter 'epoch'; did you mean 'epochs'?" in ran.stderr
    assert "'sgd_lr' = '1e-3'" in ran.stderr and "write 0.001 or 1.0e-3" in ran.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The first notebook up to its first table of trained numbers, run on a study of a second."""
    folder = tmp_path_factory.mktemp("trained")
    notebook = nbformat.read(SURLEMONT, as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.source.find("means(rows") > 0)
    notebook.cells = notebook.cells[: last + 1]
    nbformat.write(notebook, folder / "short.ipynb")
    tiny = TINY | {"store": str(folder / "store"), "timing_repeats": 0}
    return report.execute(folder / "short.ipynb", folder / "run.ipynb", tiny)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern, passes",
    [(None, True), (r"ratio 1\.00000()0", False), (r"<td>\d+\.\d*()\d</td>", False)],
    ids=["unchanged", "a changed printed number", "a changed number in a table of trained runs"],
)
def test_strict_nbval_fails_on_a_changed_number(trained, tmp_path, pattern, passes):
    notebook = nbformat.read(trained, as_version=4)
    if pattern:
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        texts = [(o.data, "text/html") for o in outputs if "data" in o and "text/html" in o.data]
        texts += [(o, "text") for o in outputs if o.output_type == "stream"]
        holder, key, found = next(
            (holder, key, found)
            for holder, key in reversed(texts)  # the last table is one of trained runs
            if (found := re.search(pattern, holder[key]))
        )
        at = found.end(1)
        digit = str((int(holder[key][at]) + 1) % 10)
        holder[key] = holder[key][:at] + digit + holder[key][at + 1 :]
    copy = tmp_path / "copy.ipynb"
    nbformat.write(notebook, copy)
    options = ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-q"]
    options += ["--nbval-sanitize-with", str(ROOT / "tests" / "nbval_sanitize.cfg")]
    command = [sys.executable, "-m", "pytest", *options, str(copy)]
    environment = os.environ | {"IPYTHONDIR": str(tmp_path)}  # not a user's
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode == 0) == passes, ran.stdout[-2000:]
