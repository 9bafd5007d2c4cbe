"""The protocol of Kaabachi et al.: parameters, arms, which runs, which times."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bsglib.runs.params import MoreSeeds, Positive, PositiveFloat, RunConfig, distinct
from bsglib.runs.sweep import Entry
from bsglib.studies.parameters import BatchSizes, Confirm, DatasetParameters, TimingParameters
from bsglib.studies.study import Timing

Share = Annotated[float, Field(gt=0, lt=1)]

WARMUPS = ("exponential", "linear", "constant")  # the paper shows the first only
SMALL, LARGE = "small batches", "large batches"  # experiments 1 and 2, rate not scaled
LINEAR = "linear rule"  # experiment 3
WARM = {kind: f"linear rule, {kind} warm-up" for kind in WARMUPS}  # experiment 4
EXPONENTIAL = WARM["exponential"]
COLD = "linear rule, equal epochs"  # its control: as long, without warm-up
SQRT, RATES = "square-root rule", "other rates"
LENGTHS, LOCAL = "warm-up lengths", "local SGD"
RATE = "rate alone"  # what arms vary that are as long as those with warm-up, and have none
SETTINGS = {  # of arms whose runs differ in more than batch size and seed
    RATES: "rate {base_lr:g}",
    LENGTHS: EXPONENTIAL + " in epochs: {warmup_epochs:g}",
    LOCAL: LOCAL + " (B of a worker), local steps: {local_steps}",
}


def reference(batch_size: int) -> str:
    """Return the name of the linear rule that starts from a batch size."""
    return f"linear rule from B = {batch_size}"


class KaabachiConfirm(Confirm):
    """What the runs that the verdicts come from have besides; comments stand in the file."""

    control_share: Share
    more_seeds: MoreSeeds


class KaabachiParameters(DatasetParameters, TimingParameters):
    """What the notebook and the parameter files set; comments stand in the notebook."""

    network: str
    small_batch_sizes: BatchSizes
    large_batch_sizes: BatchSizes
    lr: float = Field(gt=0)
    unscaled_lr: float = Field(gt=0)
    reference_batch_sizes: Annotated[list[Positive], AfterValidator(distinct)]
    other_lrs: Annotated[list[PositiveFloat], AfterValidator(distinct)]
    small_epochs: int = Field(gt=0)
    large_epochs: list[Positive]
    scaled_epochs: int = Field(gt=0)
    warmup_epochs: int = Field(gt=0)
    warmup_share: Share
    other_shares: Annotated[list[Share], AfterValidator(distinct)]
    local_workers: int = Field(gt=1)
    local_steps: Annotated[list[Positive], AfterValidator(distinct)]
    evaluate: Literal["every", "log", "test"]
    target_share: Share
    confirm: KaabachiConfirm | None = None  # the arms as written and as run instead

    @property
    def batch_sizes(self) -> list[int]:
        """Return the small batch sizes, then the large ones."""
        return self.small_batch_sizes + self.large_batch_sizes

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.large_epochs) != len(self.large_batch_sizes):
            raise ValueError(
                f"parameter 'large_epochs' = {self.large_epochs}: needed is one number for each of "
                f"'large_batch_sizes' = {self.large_batch_sizes}"
            )
        if max(self.small_batch_sizes) >= min(self.large_batch_sizes):
            raise ValueError(
                f"parameters 'small_batch_sizes' = {self.small_batch_sizes} and "
                f"'large_batch_sizes' = {self.large_batch_sizes}: the first have to be smaller"
            )
        if self.warmup_epochs > self.scaled_epochs:
            raise ValueError(
                f"parameter 'warmup_epochs' = {self.warmup_epochs}: allowed are at most "
                f"'scaled_epochs' = {self.scaled_epochs}, where runs with and without are compared"
            )
        if max(self.large_batch_sizes) % self.local_workers:
            raise ValueError(
                f"parameter 'local_workers' = {self.local_workers}: the largest batch, "
                f"{max(self.large_batch_sizes)}, is to be divided among them"
            )
        return self


def design(p: KaabachiParameters) -> list[Entry]:
    """Return the runs: without scaling, with the linear rule, its rivals, other remedies."""
    parts = (unscaled,), (linear, _warm), (_rules,), (_lengths, _local)
    return [
        Entry(config, (), arm, part, labels=_labels(arm, config, rules=of_kind is _rules))
        for part, kinds in enumerate(parts, start=1)
        for seed in p.seeds
        for of_kind in kinds
        for arm, config in of_kind(p, seed)
    ]


def _labels(arm: str, config: RunConfig, *, rules: bool) -> dict[str, str]:
    """What its run varies, and what it has in common with those of other seeds and sizes."""
    setting = SETTINGS.get(arm, arm).format_map(config.model_dump())
    return {"varied": RATE if rules else "", "setting": setting}


Planned = list[tuple[str, RunConfig]]  # arm, run


def unscaled(p: KaabachiParameters, seed: int) -> Planned:
    """Return experiments 1 and 2: one rate for all, more epochs for larger batches."""
    small = [(SMALL, b, p.small_epochs) for b in p.small_batch_sizes]
    large = [(LARGE, *pair) for pair in zip(p.large_batch_sizes, p.large_epochs, strict=True)]
    rate = {"base_lr": p.unscaled_lr, "scaling": "none"}
    return [(arm, run_config(p, seed, b, epochs, **rate)) for arm, b, epochs in small + large]


def linear(p: KaabachiParameters, seed: int) -> Planned:
    """Return experiment 3: the rate in proportion to the batch size."""
    return [(LINEAR, run_config(p, seed, b, p.scaled_epochs)) for b in p.large_batch_sizes]


def _warm(p: KaabachiParameters, seed: int) -> Planned:
    return [
        (WARM[kind], run_config(p, seed, b, p.warmup_epochs, **warmup(p, kind, p.warmup_share)))
        for kind in WARMUPS
        for b in p.large_batch_sizes
    ]


def _rules(p: KaabachiParameters, seed: int) -> Planned:
    """As long as those with warm-up: the linear rule without, other references, rules and rates."""
    changes = [(COLD, {"evaluate": p.evaluate}), (SQRT, {"scaling": "sqrt"})]
    changes += [(reference(b), {"reference_batch_size": b}) for b in p.reference_batch_sizes]
    changes += [(RATES, {"base_lr": lr, "scaling": "none"}) for lr in p.other_lrs]
    return [
        (arm, run_config(p, seed, b, p.warmup_epochs, **{"evaluate": "last"} | change))
        for arm, change in changes
        for b in p.large_batch_sizes
    ]


def _lengths(p: KaabachiParameters, seed: int) -> Planned:
    largest = max(p.large_batch_sizes)
    return [
        (LENGTHS, run_config(p, seed, largest, p.warmup_epochs, evaluate="last", **changes))
        for changes in (warmup(p, WARMUPS[0], share) for share in p.other_shares)
    ]


def _local(p: KaabachiParameters, seed: int) -> Planned:
    """Workers that together take the largest batch, each at the rate of its own."""
    own = max(p.large_batch_sizes) // p.local_workers
    several = {"local_workers": p.local_workers, "evaluate": "last"}
    return [
        (LOCAL, run_config(p, seed, own, p.warmup_epochs, local_steps=steps, **several))
        for steps in p.local_steps
    ]


def warmup(p: KaabachiParameters, kind: str, share: float) -> dict[str, Any]:
    """Return the fields of a run that warms up for a share of its epochs."""
    return {"warmup": kind, "warmup_epochs": share * p.warmup_epochs}


def run_config(
    p: KaabachiParameters, seed: int, batch_size: int, epochs: int, **changes: Any
) -> RunConfig:
    """Return a run at the linearly scaled rate, or one that differs from it in `changes`."""
    values = {
        "standardise": True,
        "network": p.network,
        "base_lr": p.lr,
        "batch_size": batch_size,
        "reference_batch_size": 1,
        "scaling": "linear",
        "epochs": epochs,
        "evaluate": p.evaluate,
    }
    return RunConfig(**p.of_run(seed) | values | changes)


def timing(p: KaabachiParameters) -> Timing:
    """Return the epochs to time: every batch size once, as in the paper's table I."""
    configs = [config for _, config in unscaled(p, p.seeds[0])]
    return Timing(tuple(configs), p.timing_samples, p.timing_repeats)
