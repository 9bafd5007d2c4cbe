"""Tests of the pieces where nothing but their five packages is installed, and of the wheel."""

import subprocess
import sys
import tomllib
import zipfile

import pytest
from test_packaging import EXTRAS, imported

from bsglib.project import ROOT

PIECES = (
    "claims evaluate gradients device_graphs landscape models names proximal runtime sam schedules "
    "sharpness stacked stats verdicts weights"
).split()
LIGHT = {"numpy", "pandas", "scipy", "torch", "tqdm", "bsglib"}
ASKED_FOR = {"threadpoolctl"}  # where it is installed
OF_TORCH = {"filelock", "jinja2", "markupsafe"}  # which brings them

WITHOUT = """
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions

extras = {extras!r}
blocked = {{
    name
    for name, packages in packages_distributions().items()
    if {{p.lower().replace("_", "-") for p in packages}} & extras
}}


class Blocked(Loader):  # found, so that one may ask for it, and never loaded
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] in blocked else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {{spec.name!r}}", name=spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Blocked())
{code}
print("works")
"""

USE = """
import torch
from bsglib import claims, evaluate, gradients, models, schedules, stats, verdicts, weights
from bsglib.landscape import filter_normalized_direction, interpolate, loss_surface
from bsglib.sam import SAM
from bsglib.sharpness import hessian_trace, keskar_sharpness, lambda_max, sam_sharpness

x, y = torch.randn(20, 6), torch.arange(20) % 3
two = (torch.nn.Linear(6, 5), torch.nn.Linear(6, 5))
net, other = (torch.nn.Sequential(one, torch.nn.ReLU(), torch.nn.Linear(5, 3)) for one in two)
optimizer = SAM(torch.optim.SGD(net.parameters(), 0.1), rho=0.05)


def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    return loss


optimizer.step(closure)
for measure in (keskar_sharpness, lambda_max, hessian_trace, sam_sharpness):
    measure(net, x, y)
ends = ({n: p.detach().clone() for n, p in m.named_parameters()} for m in (net, other))
assert len(interpolate(net, *ends, {"train": (x, y)}, alphas=[0, 1])) == 2
directions = [filter_normalized_direction(net, seed=s) for s in (0, 1)]
assert loss_surface(net, x, y, directions=directions, points=3).loss.shape == (3, 3)
models.build("f1", (1, 28, 28), 10)
"""


def test_the_pieces_work_without_the_packages_of_the_studies():
    extras = sorted({text.partition(">")[0] for extra in EXTRAS.values() for text in extra})
    code = WITHOUT.format(extras=set(extras) - OF_TORCH, code=USE)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "works", ran.stderr


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_imports_its_five_packages_alone(piece):
    module = ROOT / "bsglib" / piece
    files = sorted(module.glob("*.py")) if module.is_dir() else [module.with_suffix(".py")]
    assert set.union(*map(imported, files)) <= LIGHT | ASKED_FOR


def test_mypy_checks_the_pieces():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    files = [ROOT / file for file in tools["mypy"]["files"]]
    assert [file.stem for file in files] == PIECES and all(file.exists() for file in files)


def test_importing_a_piece_changes_nothing_in_the_process():
    code = """
import torch, os
before = torch.get_num_threads(), dict(os.environ), torch.initial_seed(), torch.get_default_dtype()
import ctypes
kept = ctypes.CDLL(None).mallopt
import bsglib.sam, bsglib.sharpness, bsglib.landscape
after = torch.get_num_threads(), dict(os.environ), torch.initial_seed(), torch.get_default_dtype()
assert before == after
import sys
assert not {"matplotlib", "IPython", "dask", "pydantic", "yaml", "torchvision"} & set(sys.modules)
print("unchanged")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "unchanged", ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.slow
def test_bsg_works_from_the_wheel_with_ones_own_parameter_file(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        packed.extractall(tmp_path / "site")
    for needed in ("py.typed", "pages/templates/report/style.css", "studies/surlemont/claims.yaml"):
        assert f"bsglib/{needed}" in names
    own = tmp_path / "mine.yaml"
    quick = (ROOT / "params" / "surlemont_sam" / "quick.yaml").read_text()
    own.write_text(quick.replace("profile: quick", "profile: mine"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import bsglib, bsglib.cli; "
        f"assert bsglib.__file__.startswith({str(tmp_path / 'site')!r}); bsglib.cli.app()"
    )

    def bsg(*words):
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    store = str(tmp_path / "runs")
    dry = bsg("compute", "surlemont_sam", "--profile", str(own), "--store", store, "--dry-run")
    assert dry.returncode == 0 and "155 runs" in dry.stdout, dry.stderr
    for words in (("report",), ("compute", "--profile", "quick")):
        refused = bsg(*words, "surlemont_sam")
        assert refused.returncode == 1 and "of a clone" in refused.stderr
