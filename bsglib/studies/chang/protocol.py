"""The protocol of Chang & Pathak: parameters, arms, which runs and measures, which times."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from bsglib.runs.measures import LINE, Measure
from bsglib.runs.params import Positive, PositiveFloat, RunConfig, distinct
from bsglib.runs.sweep import Entry
from bsglib.studies.parameters import (
    SharpnessConfirm,
    SharpnessParameters,
    SweepParameters,
    TimingParameters,
)
from bsglib.studies.study import Timing

FIXED, SCALED, OTHER, LOSS = "fixed lr", "scaled lr", "other lrs", "equal loss"  # arms
PARTS = {FIXED: 1, SCALED: 2, OTHER: 3, LOSS: 4}
RATES = {FIXED: "fixed", SCALED: "linear", OTHER: "other", LOSS: "fixed"}  # the rule of each

SHARPNESS = "keskar_sharpness"  # a column of the runs
SURFACE, AGREEMENT = "loss_surface", "gradient_agreement"  # measures that give rows
PLANES = ((0, 1), (2, 3))  # seeds of the two directions of each plane shown
LINES = (0, 1, 2, 3, 4)  # seeds of the directions of single lines


class ChangParameters(SweepParameters, SharpnessParameters, TimingParameters):
    """What the notebook and the parameter files set; comments stand in the notebook."""

    lr: float = Field(gt=0)  # of the smallest batch size, the reference
    lrs: Annotated[list[PositiveFloat], AfterValidator(distinct)]
    patience: int = Field(gt=0)
    equal_loss: float = Field(gt=0)
    line_examples: int = Field(gt=0)
    line_points: int = Field(ge=13)
    surface_examples: int = Field(gt=0)
    surface_points: int = Field(ge=3)
    explorer_points: int = Field(ge=3)
    agreement_examples: int = Field(gt=0)
    processes: Annotated[list[Positive], Field(min_length=1), AfterValidator(distinct)]
    confirm: SharpnessConfirm | None = None  # everything that a rule may need is stored, too

    @model_validator(mode="after")
    def _rates_are_on_the_grid(self) -> Self:
        for batch_size in self.batch_sizes:
            if (lr := self.scaled_lr(batch_size)) not in self.lrs:
                raise ValueError(
                    f"parameter 'lrs' = {self.lrs}: {lr:g} is missing, the linearly scaled rate of "
                    f"B = {batch_size}"
                )
        for name in ("surface_points", "explorer_points"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"parameter {name!r} = {getattr(self, name)}: has to be odd")
        if self.agreement_examples < self.largest:
            raise ValueError(
                f"parameter 'agreement_examples' = {self.agreement_examples}: has to be at least "
                f"{self.largest}, the largest of 'batch_sizes'"
            )
        if self.line_points % 12 != 1:
            raise ValueError(
                f"parameter 'line_points' = {self.line_points}: the line from -1 to 2 has points a "
                "quarter apart with 13, 25, 37, ..."
            )
        if min(self.processes) != 1:
            raise ValueError(f"parameter 'processes' = {self.processes}: 1 is missing")
        return self

    def scaled_lr(self, batch_size: int) -> float:
        """Return the learning rate that the linear rule gives a batch size."""
        return float(f"{self.lr * batch_size / self.smallest:.12g}")

    def arm(self, batch_size: int, lr: float) -> str:
        """Return the arm of a cell of the grid; the smallest batch size's scaled rate is fixed."""
        if lr == self.lr:
            return FIXED
        return SCALED if lr == self.scaled_lr(batch_size) else OTHER


def design(p: ChangParameters) -> list[Entry]:
    """Return the runs: the grid of batch size and rate, then runs that stop at one loss.

    More seeds have the cells of the two rules alone: the fixed rate and the scaled one.
    """
    cells = [
        (seed, b, lr)
        for seed in (*p.seeds, *p.more_seeds)
        for b in sorted(p.batch_sizes)
        for lr in sorted(p.lrs)
        if seed in p.seeds or p.arm(b, lr) != OTHER
    ]
    entries = [_cell(p, *cell) for cell in cells]
    entries += [_equal_loss(p, seed, b) for seed in p.seeds for b in sorted(p.batch_sizes)]
    return sorted(entries, key=lambda entry: entry.part)


def timing(p: ChangParameters) -> Timing:
    """Return the epochs to time: every batch size, over every number of processes."""
    configs = [run_config(p, p.seeds[0], b, p.lr) for b in sorted(p.batch_sizes)]
    return Timing(tuple(configs), p.timing_samples, p.timing_repeats, tuple(p.processes))


def _cell(p: ChangParameters, seed: int, batch_size: int, lr: float) -> Entry:
    arm = p.arm(batch_size, lr)
    measures = [_sharpness(p), Measure("distances", 0)]
    if seed == p.seeds[0]:
        measures.append(_surface(p, PLANES[0], p.explorer_points))
    if arm == FIXED:
        measures.append(Measure("update_norms", 0))
        if batch_size in (p.smallest, p.largest):
            measures += _landscape(p, seed)
        if batch_size == p.smallest:
            sizes = {"batch_sizes": sorted(p.batch_sizes)}
            measures.append(Measure(AGREEMENT, p.agreement_examples, sizes))
        if batch_size == p.largest:
            start = run_config(p, seed, p.smallest, lr)
            measures.append(Measure(LINE, p.line_examples, {"points": p.line_points}, start))
    distinct_ones = {measure.file: measure for measure in measures}
    config = run_config(p, seed, batch_size, lr)
    labels = {"rate": RATES[arm], "whole_grid": seed in p.seeds}
    labels["scaled"] = lr == p.scaled_lr(batch_size)  # at the smallest batch size fixed as well
    labels["high_rate"] = seed in p.seeds and lr == p.scaled_lr(p.largest)
    return Entry(config, tuple(distinct_ones.values()), arm, PARTS[arm], labels=labels)


def _landscape(p: ChangParameters, seed: int) -> list[Measure]:
    measures = [Measure("trajectory", 0), _surface(p, PLANES[0], p.explorer_points)]
    measures += [_surface(p, (line,), p.surface_points) for line in LINES]
    if seed == p.seeds[0]:
        measures += [_surface(p, plane, p.surface_points) for plane in PLANES]
    return measures


def _equal_loss(p: ChangParameters, seed: int, batch_size: int) -> Entry:
    stop = {"target_loss": p.equal_loss, "patience": None, "keep": "last", "evaluate": "log"}
    stop["record_epochs"] = []
    config = run_config(p, seed, batch_size, p.lr, patience_on="loss", record_path=False, **stop)
    measures = _sharpness(p), Measure("distances", 0)
    return Entry(config, measures, LOSS, PARTS[LOSS], labels={"rate": RATES[LOSS]})


def run_config(
    p: ChangParameters, seed: int, batch_size: int, lr: float, **changes: Any
) -> RunConfig:
    """Return a run of the grid, or one that differs from it in `changes`."""
    along = p.confirm is not None and seed in p.confirm.recorded_seeds and lr == p.lr
    values = {
        "network": "chang",
        "optimizer": "sgd",
        "base_lr": lr,
        "batch_size": batch_size,
        "patience": p.patience,
        "patience_on": "validation_loss",
        "keep": "best",
        "evaluate": "validation",
        "record_path": p.arm(batch_size, lr) in (FIXED, SCALED),
        "record_epochs": p.confirm.record_epochs if along else [],
    }
    return RunConfig(**p.of_run(seed) | values | changes)


def _sharpness(p: ChangParameters) -> Measure:
    options = {"epsilon": p.epsilon, "max_iter": p.max_iter}
    return Measure(SHARPNESS, p.sharpness_examples, options)


def _surface(p: ChangParameters, seeds: tuple[int, ...], points: int) -> Measure:
    return Measure(SURFACE, p.surface_examples, {"seeds": list(seeds), "points": points})
