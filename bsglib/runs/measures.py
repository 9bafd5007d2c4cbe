"""What is measured of a trained run, and kept beside it."""

import dataclasses
import json
import logging
import math
import time
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from bsglib import runtime
from bsglib.gradients import gradient_agreement
from bsglib.landscape import (
    filter_normalized_direction,
    interpolate,
    loss_surface,
    trajectory_plane,
)
from bsglib.names import digest, nearest
from bsglib.runs.build import DTYPES, build_model, dataset_of, dataset_on_device
from bsglib.runs.finished import Run
from bsglib.runs.outcomes import outcomes
from bsglib.runs.params import ParameterError, RunConfig
from bsglib.runs.store import DamagedError, Store
from bsglib.runs.train import train
from bsglib.sharpness import (
    batch_sharpness,
    hessian_trace,
    keskar_sharpness,
    lambda_max,
    sam_sharpness,
)
from bsglib.weights import flatten

log = logging.getLogger(__name__)

MEASURES = {
    measure.__name__: measure
    for measure in (keskar_sharpness, lambda_max, hessian_trace, sam_sharpness, batch_sharpness)
}
LINE = "interpolate"  # the measure that takes a second run
OUTCOMES = "test_outcomes"  # the measure of every test example
SAVE_EVERY_S = 5.0  # the points of a surface computed so far


@dataclass(frozen=True)
class Measure:
    """A function of MEASURES, applied to a run's kept weights and first training examples.

    Or a function of a study's own, by its `module:function`, with the same arguments and a result
    that has a `value`.

    Or OUTCOMES: loss and correctness of every test example, as text (`outcomes.Outcomes`).

    Or one of ROWS, which give rows:

    - LINE: loss and accuracy between the kept weights of another run, at alpha = 0, and this one's,
      at alpha = 1, over the first training examples and as many test examples, drawn at random
      because a test set may be sorted.
    - "distances": of the kept weights from the initial ones, layer by layer; "whole" for all.
    - "update_norms": their quantiles, of a run with `record_path`.
    - "trajectory": the recorded weights up to the kept ones, in the plane of their two leading
      principal directions.
    - "gradient_agreement": norms of the mean gradients of batches drawn from the first training
      examples, by the `batch_sizes` in its options.
    - "loss_surface": along filter-normalized directions of the `seeds` in its options; goes on
      where it was interrupted.
    """

    name: str
    examples: int
    options: dict[str, Any] = field(default_factory=dict)
    start: RunConfig | None = None  # the other run of a LINE
    label: str = ""  # column of the value in tables; "" is the name
    epoch: int | None = None  # of the run's `record_epochs`: of the network as it was after it

    def __post_init__(self):
        """Refuse a name that no worker would know, and an epoch that the measure ignores.

        Raises:
            ValueError: if the name is none of MEASURES, ROWS and OUTCOMES, or there is an epoch and
                the name is not one of MEASURES.
        """
        known = [*MEASURES, *ROWS, OUTCOMES]
        if self.name not in known and not self.of_study:
            raise ValueError(f"unknown measure {self.name!r}{nearest(self.name, known)}")
        if self.epoch is not None and not self.gives_value:
            raise ValueError(
                f"measure {self.name!r}: epoch = {self.epoch}; only "
                f"{', '.join(MEASURES)} are taken after an epoch"
            )

    @property
    def of_study(self) -> bool:
        """Return whether a study brings the function."""
        return ":" in self.name

    @property
    def gives_value(self) -> bool:
        """Return whether it is a function that gives a value, not rows."""
        return self.of_study or self.name in MEASURES

    @property
    def column(self) -> str:
        """Return the column of its value in tables."""
        return self.label or self._short

    @property
    def digest(self) -> str:
        """Return its identity, whatever its column is called."""
        parts = [self.name, str(self.examples), json.dumps(self.options, sort_keys=True)]
        parts += [] if self.start is None else [self.start.canonical()]
        parts += [] if self.epoch is None else [f"epoch {self.epoch}"]
        return digest(*parts)

    @property
    def file(self) -> str:
        """Return where a run keeps it."""
        return f"measures/{self._short}-{self.digest}.json"

    @property
    def _short(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def partial(self) -> str:
        """Return where a run keeps what was computed of it before an interruption."""
        return f"{self.file}.partial"


def take_measure(run: Run, measure: Measure, store: Store) -> None:
    """Measure a run into the store, unless another process has done it meanwhile."""
    with store.lock(run.id):
        store.remove_leftovers(run.id)
        if stored_measure(run.id, measure, store) is None:
            content = {"run_id": run.id, "name": measure.name, "examples": measure.examples}
            begun = time.process_time()
            take = _outcomes if measure.name == OUTCOMES else ROWS.get(measure.name, _measure)
            values = take(run, measure, store)
            seconds = time.process_time() - begun
            content |= {"options": measure.options, "values": values, "processor_s": seconds}
            store.write_json(run.id, measure.file, content)


def stored_measure(identity: str, measure: Measure, store: Store) -> dict[str, Any] | None:
    """Return the values of a stored measure, None if it is not there or damaged."""
    content = stored_content(identity, measure, store)
    return None if content is None else content["values"]


def stored_content(identity: str, measure: Measure, store: Store) -> dict[str, Any] | None:
    """Return a stored measure with its "values" and "processor_s", None if not there or damaged."""
    try:
        return store.read_json(identity, measure.file)
    except DamagedError as error:
        log.warning("%s; it is measured again", error)
        return None


def _line(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    start = train(measure.start, store=store)
    if start.diverged:
        return {"rows": []}
    dataset, n = dataset_on_device(run.config), measure.examples
    drawn = torch.from_numpy(np.random.default_rng(0).permutation(len(dataset.test))[:n])
    sets = {
        name: (dataset.as_input(split.x[index], DTYPES[run.config.dtype]), split.y[index])
        for name, split, index in (
            ("train", dataset.train, slice(n)),
            ("test", dataset.test, drawn.to(dataset.test.y.device)),
        )
    }
    options = {"low": -1.0, "high": 2.0, "points": 25} | measure.options
    alphas = np.linspace(*(options.pop(name) for name in ("low", "high", "points")))
    model = run.model().to(runtime.device())
    rows = interpolate(model, start.weights, run.weights, sets, alphas=alphas, **options)
    return {"rows": rows.to_dict("records")}


def _distances(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    dataset = dataset_of(run.config)
    with torch.random.fork_rng():
        torch.manual_seed(run.config.seed)
        initial = dict(build_model(run.config, dataset).named_parameters())
    rows = {"whole": {"layer": "whole", "weights": 0, "distance": 0.0, "initial_norm": 0.0}}
    for name, before in initial.items():
        layer, before = name.rpartition(".")[0], before.detach().cpu().double()
        row = rows.setdefault(layer, dict.fromkeys(rows["whole"], 0) | {"layer": layer})
        moved = float((run.weights[name].double() - before).square().sum())
        for r in (row, rows["whole"]):
            r["weights"] += before.numel()
            r["distance"] += moved
            r["initial_norm"] += float(before.square().sum())
    for row in rows.values():
        row |= {name: math.sqrt(row[name]) for name in ("distance", "initial_norm")}
    return {"rows": list(rows.values())}


def _recorded(run: Run, measure: Measure) -> None:
    if not run.path:
        raise ParameterError(f"measure {measure.name!r}: needs a run with 'record_path' = true")


def _update_norms(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    _recorded(run, measure)
    levels = np.linspace(0, 1, 101)
    norms = np.quantile(run.path["norms"].double().numpy(), levels)
    return {"rows": [{"level": q, "norm": n} for q, n in zip(levels, norms.tolist(), strict=True)]}


def _trajectory(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    _recorded(run, measure)
    recorded = (int(name.split(".")[1]) for name in run.path if name.startswith("weights."))
    kept = int(run.result["kept_epoch"])
    before = sorted(epoch for epoch in recorded if epoch < kept)
    if len(before) < 2:  # kept where it started, as it were: three points span a plane
        return {"rows": []}
    weights = [run.path[f"weights.{epoch}"] for epoch in before]
    plane = trajectory_plane(torch.stack([*weights, flatten(run.model().parameters())]))
    epochs = [*before, kept]
    columns = zip(epochs, plane.coordinates.tolist(), strict=True)
    shares = {"explained_a": plane.explained[0], "explained_b": plane.explained[1]}
    return {"rows": [{"epoch": epoch, "a": a, "b": b} | shares for epoch, (a, b) in columns]}


def _agreement(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    model, x, y = _on_training_set(run, measure.examples)
    found = gradient_agreement(model, x, y, **measure.options)
    return {"rows": found.rows().to_dict("records")}


def _surface(run: Run, measure: Measure, store: Store) -> dict[str, list]:
    model, x, y = _on_training_set(run, measure.examples)
    options = dict(measure.options)
    seeds = options.pop("seeds")
    directions = [filter_normalized_direction(model, seed=seed) for seed in seeds]
    done: dict[tuple[int, ...], float] = {}
    try:
        stored = store.read_json(run.id, measure.partial) or {"points": []}
        done = {tuple(index): value for index, value in stored["points"]}
    except DamagedError as error:
        log.warning("%s; the surface starts anew", error)
    saved_at = time.monotonic()

    def keep(index: tuple[int, ...], value: float) -> None:
        nonlocal saved_at
        done[index] = value
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            points = [[list(i), v] for i, v in done.items()]
            store.write_json(run.id, measure.partial, {"run_id": run.id, "points": points})
            saved_at = time.monotonic()

    surface = loss_surface(model, x, y, directions=directions, done=done, on_point=keep, **options)
    b = [0.0] if surface.b is None else surface.b.tolist()
    losses = surface.loss.reshape(len(surface.a), -1).tolist()
    return {
        "rows": [
            {"a": a, "b": other, "loss": loss, "cosine": surface.cosine}
            for a, row in zip(surface.a.tolist(), losses, strict=True)
            for other, loss in zip(b, row, strict=True)
        ]
    }


ROWS = {
    LINE: _line,
    "distances": _distances,
    "update_norms": _update_norms,
    "trajectory": _trajectory,
    "gradient_agreement": _agreement,
    "loss_surface": _surface,
}


def _outcomes(run: Run, measure: Measure, store: Store) -> dict[str, Any]:
    dataset, dtype = dataset_on_device(run.config), DTYPES[run.config.dtype]
    model, test = run.model().to(runtime.device()), dataset.test
    return outcomes(model, test.x, test.y, as_input=lambda x: dataset.as_input(x, dtype)).packed()


def _on_training_set(
    run: Run, examples: int, epoch: int | None = None
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a run's network and its first training examples, on the device."""
    dataset = dataset_on_device(run.config)
    x = dataset.as_input(dataset.train.x[:examples], DTYPES[run.config.dtype])
    return run.model(epoch).to(runtime.device()), x, dataset.train.y[:examples]


def _measure(run: Run, measure: Measure, store: Store) -> dict[str, Any]:
    if measure.epoch is not None and measure.epoch not in run.states:
        return {}  # the run ended before
    model, x, y = _on_training_set(run, measure.examples, measure.epoch)
    module, _, name = measure.name.rpartition(":")
    function = getattr(import_module(module), name) if module else MEASURES[name]
    return dataclasses.asdict(function(model, x, y, **measure.options))
