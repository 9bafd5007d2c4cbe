"""How long runs and measures will take, and how much disk."""

import dataclasses
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
import torch

from bsglib import runtime
from bsglib.names import digest
from bsglib.runs.build import DTYPES, build_model, build_optimizer, dataset_of, train_batch
from bsglib.runs.curves import CURVE_EXAMPLES, log_spaced
from bsglib.runs.measures import LINE, OUTCOMES, Measure
from bsglib.runs.params import RunConfig
from bsglib.runs.sweep import Entry, by_run
from bsglib.studies.exports import Tables
from bsglib.weights import has_batch_norm

SOLVER_S = 0.1  # of L-BFGS-B, per iteration and million weights
PRODUCT = 2.5  # a Hessian-vector product, in gradients
LANCZOS = 30  # products that one eigenvalue takes


@dataclasses.dataclass(frozen=True)
class Speed:
    """Processor seconds per example of a forward pass and of a training step."""

    forward: float
    step: float
    weights: int
    batch_norm: bool


class Costs:
    """Processor seconds of entries: those of the same run with other seeds, else a model of them.

    The model counts every pass of training, evaluation and measures, and times one batch of each
    kind of network; where patience may end a run, it counts all of the epochs.
    """

    def __init__(self, entries: Iterable[Entry] = (), known: Iterable[Tables] = ()):
        """Learn from the numbers of a design's entries as far as they are known."""
        self._runs: dict[str, list[float]] = defaultdict(list)
        self._measures: dict[str, list[float]] = defaultdict(list)
        known = list(known)
        runs = [_seconds(tables.runs, ["run"]) for tables in known]
        measures = [_seconds(tables.measures, ["run", "measure"]) for tables in known]
        for entry in by_run(entries):
            for table in runs:
                if entry.run in table:
                    self._runs[_kind(entry.config)].append(table[entry.run])
            for measure in entry.measures:
                for table in measures:
                    if (key := (entry.run, measure.digest)) in table:
                        self._measures[_kind(entry.config, measure)].append(table[key])

    def of(self, entry: Entry) -> float:
        """Return the processor seconds of an entry's run and of all its measures."""
        measures = (self._of_measure(entry.config, measure) for measure in entry.measures)
        return self._of_run(entry) + sum(measures)

    def _of_run(self, entry: Entry) -> float:
        config = entry.config
        if seen := self._runs.get(_kind(config)):
            return sum(seen) / len(seen)
        speed, examples = speed_of(config), len(dataset_of(config).train)
        epochs = config.epochs - (config.first_epochs if entry.prefix is not None else 0)
        passes = 1 if config.rho is None and config.adversarial is None else 2
        passes *= 1 if config.proximal is None else config.proximal_steps
        return epochs * examples * passes * speed.step + _evaluated(config) * speed.forward

    def _of_measure(self, config: RunConfig, measure: Measure) -> float:
        if seen := self._measures.get(_kind(config, measure)):
            return sum(seen) / len(seen)
        speed, n, options = speed_of(config), measure.examples, measure.options
        again = len(dataset_of(config).train) if measure.epoch is not None else 0
        forward = speed.forward * again * speed.batch_norm
        if measure.name == "keskar_sharpness" or measure.of_study:  # a variant of it
            iterations = options.get("max_iter", 10)
            solver = iterations * SOLVER_S * speed.weights / 1e6
            return forward + solver + (1.2 * iterations + 2) * n * speed.step
        if measure.name == "lambda_max":
            return forward + LANCZOS * PRODUCT * n * speed.step
        if measure.name == "hessian_trace":
            return forward + options.get("probes", 32) * PRODUCT * n * speed.step
        if measure.name == "batch_sharpness":
            drawn = options.get("draws", 32) * options["batch_size"]
            return forward + (1 + PRODUCT) * drawn * speed.step
        if measure.name == LINE:
            renewed = options.get("batch_norm", "reestimate") == "reestimate"
            each = 2 * n + n * (speed.batch_norm and renewed)
            return options.get("points", 25) * each * speed.forward
        if measure.name == "loss_surface":
            return options["points"] ** len(options["seeds"]) * n * speed.forward
        if measure.name == "gradient_agreement":
            return 3 * n * speed.step
        if measure.name == OUTCOMES:
            return len(dataset_of(config).test) * speed.forward
        return forward + 2 * n * speed.step


def _seconds(table: pd.DataFrame, keys: list[str]) -> dict:
    if table.empty or "processor_s" not in table:
        return {}
    known = table[table["processor_s"].notna()]
    return known.set_index(keys if len(keys) > 1 else keys[0])["processor_s"].to_dict()


def _kind(config: RunConfig, measure: Measure | None = None) -> str:
    """Return what runs, or measures of them, have in common that differ in their seed alone."""
    run = config.model_copy(update={"seed": 0, "split_seed": 0}).canonical()
    if measure is None:
        return digest(run)
    options = {name: value for name, value in measure.options.items() if name != "seed"}
    parts = measure.name, str(measure.examples), str(measure.epoch)
    return digest(run, *parts, json.dumps(options, sort_keys=True))


def _evaluated(config: RunConfig) -> int:
    """Return how many examples pass forward when a run is evaluated, all of its epochs done."""
    data, normed = dataset_of(config), speed_of(config).batch_norm
    sizes = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    again = 2 if normed else 1  # before and after batch norm is re-estimated
    whole = again * sum(sizes.values()) + sizes["train"] * normed
    total = 0
    for epoch in range(1, config.epochs + 1):
        mode, spaced, last = config.evaluate, log_spaced(epoch), epoch == config.epochs
        if (
            mode == "every"
            or epoch in config.record_epochs
            or (spaced and mode in ("log", "validation"))
        ):
            total += whole
            continue
        if mode == "validation":
            total += again * sizes["validation"] + sizes["train"] * normed
        elif mode == "test" and spaced:
            total += sizes["test"] + CURVE_EXAMPLES * normed
        total += whole * last
    return total + sizes["train"] * normed


_speeds: dict[str, Speed] = {}
PASSES = "rho", "proximal", "adversarial"  # what makes an update several passes over a batch


def speed_of(config: RunConfig) -> Speed:
    """Return how fast a config's network trains and evaluates here, from timed batches."""
    parts = config.dataset, config.image_size, config.train_size, config.network
    parts += config.network_options, config.optimizer, config.batch_size, config.dtype
    if (kind := str(parts)) not in _speeds:
        _speeds[kind] = _timed(config.model_copy(update=dict.fromkeys(PASSES)))
    return _speeds[kind]


def _timed(config: RunConfig) -> Speed:
    with runtime.one_thread(), torch.random.fork_rng():
        dataset = dataset_of(config).to(runtime.device())
        model = build_model(config, dataset)
        optimizer = build_optimizer(config, model)
        dtype, size = DTYPES[config.dtype], min(config.batch_size, len(dataset.train))
        batches, many = max(1, math.ceil(256 / size)), min(512, len(dataset.train))
        x, y = dataset.as_input(dataset.train.x[:size], dtype), dataset.train.y[:size]

        def step() -> None:
            for _ in range(batches):
                train_batch(model, optimizer, x, y, autocast=config.dtype == "bfloat16")

        @torch.no_grad()
        def forward() -> None:
            model(dataset.as_input(dataset.train.x[:many], dtype))

        stepped = _least(step) / (batches * size)
        model.eval()
        passed = _least(forward) / many
    weights = sum(w.numel() for w in model.parameters())
    return Speed(passed, stepped, weights, has_batch_norm(model))


def _least(action: Callable[[], None]) -> float:
    """Return the processor seconds of the fastest of some runs."""
    times = []
    for _ in range(4):
        begun = time.process_time()
        action()
        runtime.wait()
        times.append(time.process_time() - begun)
    return min(times)


def megabytes(entries: Sequence[Entry]) -> float:
    """Return about how much disk the runs of entries take: weights, states, history, measures."""
    sizes: dict[str, float] = {}
    total = 0.0
    for entry in by_run(entries):
        config = entry.config
        copies = 1 + len(config.record_epochs)  # of the weights
        if config.record_path:
            copies += 1 + sum(map(log_spaced, range(1, config.epochs + 1)))
        sized = config.dataset, str(config.image_size), config.dtype
        kind = digest(*sized, config.network, str(config.network_options))
        if kind not in sizes:
            with torch.random.fork_rng():
                model = build_model(config, dataset_of(config))
            weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
            sizes[kind] = weights / 1e6
        total += copies * sizes[kind] + 0.02
    return total
