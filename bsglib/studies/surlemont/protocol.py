"""The protocol of Surlemont et al.: parameters, arms, which runs and measures, which times."""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import pandas as pd
from pydantic import AfterValidator, Field

from bsglib.runs.measures import Measure
from bsglib.runs.params import PositiveFloat, RunConfig, distinct
from bsglib.runs.sweep import Entry
from bsglib.studies.confirmatory import Grid
from bsglib.studies.parameters import (
    SharpnessConfirm,
    SharpnessParameters,
    SweepParameters,
    TimingParameters,
)
from bsglib.studies.study import Results, Timing
from bsglib.studies.surlemont import published
from bsglib.verdicts import Shares

DATA = "fashion_mnist"


class SurlemontConfirm(SharpnessConfirm):
    """What the runs that the verdicts come from have besides; comments stand in the file."""

    adaptive_rho: float = Field(gt=0)
    rates: Grid


class SurlemontParameters(SweepParameters, SharpnessParameters, TimingParameters):
    """What the notebook and the parameter files set; comments stand in the notebook."""

    network: str
    dropout: float | None = Field(ge=0, lt=1)
    sgd_lr: float = Field(gt=0)
    adam_lr: float = Field(gt=0)
    reference_batch_size: int = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    patience: int | None = Field(gt=0)
    evaluate: Literal["every", "log"]
    rho: float = Field(gt=0)
    rho_sweep: Annotated[list[PositiveFloat], AfterValidator(distinct)]
    lambda_max_examples: int = Field(gt=0)
    confirm: SurlemontConfirm | None = None  # the arms as written and as run instead


class Arm(NamedTuple):
    """One way to train, at every batch size."""

    optimizer: str
    scaling: str
    sam: bool
    dropout: bool = True

    @property
    def label(self) -> str:
        """Return its name in tables and figures."""
        lr = {"none": "fixed lr", "linear": "scaled lr"}[self.scaling]
        name = f"{'SGD' if self.optimizer == 'sgd' else 'Adam'}, {lr}{', SAM' * self.sam}"
        return name + ("" if self.dropout else ", no dropout")

    @property
    def labels(self) -> dict[str, str | bool]:
        """Return the columns that its runs have in the study's tables."""
        rate = {"none": "fixed", "linear": "scaled"}[self.scaling]
        which = {"optimizer": self.optimizer, "rate": rate}
        return which | {"sam": self.sam, "dropout": self.dropout, "condition": MAIN}


SGD, SGD_SAM = Arm("sgd", "linear", False), Arm("sgd", "linear", True)
SGD_FIXED, SGD_FIXED_SAM = Arm("sgd", "none", False), Arm("sgd", "none", True)
ADAM, ADAM_SAM = Arm("adam", "linear", False), Arm("adam", "linear", True)
ADAM_FIXED, ADAM_FIXED_SAM = Arm("adam", "none", False), Arm("adam", "none", True)
NO_DROPOUT, NO_DROPOUT_SAM = (arm._replace(dropout=False) for arm in (SGD, SGD_SAM))
MORE = (SGD, SGD_SAM, SGD_FIXED, SGD_FIXED_SAM)  # the arms that have more seeds
MAIN, RHO_SWEEP = "main", "SGD, scaled lr, SAM, other rho"  # conditions
PARTS = (  # computed in this order
    (SGD, SGD_SAM, NO_DROPOUT, NO_DROPOUT_SAM, SGD_FIXED, SGD_FIXED_SAM),
    (ADAM, ADAM_SAM, ADAM_FIXED, ADAM_FIXED_SAM),
)


def design(p: SurlemontParameters) -> list[Entry]:
    """Return the study's runs: ten arms, two of them without dropout, and the rho sweep."""
    entries = []
    for part, arms in enumerate(PARTS, start=1):
        for seed in (*p.seeds, *p.more_seeds):
            more = seed in p.more_seeds
            for arm in arms:
                if (arm in MORE or not more) and (arm.dropout or p.dropout is not None):
                    entries += [_entry(p, arm, b, seed, part) for b in p.batch_sizes]
            if part == 2 and not more:
                largest = max(p.batch_sizes)
                for rho in p.rho_sweep:
                    entry = _entry(p, SGD_SAM, largest, seed, part, rho=rho, condition=RHO_SWEEP)
                    entries.append(entry)
    return entries


def _entry(
    p, arm: Arm, batch_size: int, seed: int, part: int, *, rho=None, condition: str = MAIN
) -> Entry:
    options = {"epsilon": p.epsilon, "max_iter": p.max_iter}
    measures = [Measure("keskar_sharpness", p.sharpness_examples, options)]
    if arm in (SGD, SGD_SAM) and condition == MAIN:
        measures.append(Measure("lambda_max", p.lambda_max_examples))
    config = run_config(p, arm, batch_size, seed, rho=rho)
    name = arm.label if condition == MAIN else condition
    labels = arm.labels | {"condition": condition}
    return Entry(config, tuple(measures), name, part, labels=labels)


def run_config(
    p: SurlemontParameters, arm: Arm, batch_size: int, seed: int, *, rho: float | None = None
) -> RunConfig:
    """Return an arm's run at a batch size, with another radius of SAM if one is given."""
    same = batch_size == p.reference_batch_size  # fixed and scaled rate agree: one run serves both
    values = p.of_run(seed) | {
        "network": p.network,
        "optimizer": arm.optimizer,
        "momentum": p.momentum if arm.optimizer == "sgd" else 0.0,
        "base_lr": p.sgd_lr if arm.optimizer == "sgd" else p.adam_lr,
        "batch_size": batch_size,
        "reference_batch_size": p.reference_batch_size,
        "scaling": "linear" if same else arm.scaling,
        "rho": (p.rho if arm.sam else None) if rho is None else rho,
        "patience": p.patience,
        "evaluate": p.evaluate,
    }
    if p.dropout is not None:
        dropout = {"dropout": p.dropout if arm.dropout else 0.0}
        values["network_options"] = p.network_options | dropout
    return RunConfig(**values)


def timing(p: SurlemontParameters) -> Timing:
    """Return the epochs to time: SGD without and with SAM at every batch size."""
    configs = [
        run_config(p, arm, batch_size, p.seeds[0])
        for batch_size in p.batch_sizes
        for arm in (SGD, SGD_SAM)
    ]
    return Timing(tuple(configs), p.timing_samples, p.timing_repeats)


def shares(results: Results, runs: pd.DataFrame) -> Iterator[Shares]:
    """Yield what each run has of the authors' training.

    One has fewer updates only where it was cut off before the most epochs that they allow.

    Args:
        results: of the study.
        runs: some of its runs.
    """
    width = results.parameters.network_options.get("width", 1.0)
    for run in runs.itertuples():
        cut_off = run.stopped == "epochs" and run.epochs < published.MAX_EPOCHS
        theirs = published.updates(run.optimizer, run.rate, run.sam, run.batch_size)
        yield Shares(
            updates=run.updates / theirs if cut_off else 1.0,
            examples=1.0 if pd.isna(run.train_size) else run.train_size / published.EXAMPLES,
            width=width,
            data="" if run.dataset == DATA else run.dataset,
        )
