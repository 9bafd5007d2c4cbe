"""The protocol of Keskar et al.: parameters, arms, which runs and measures."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from bsglib.data import at_hand
from bsglib.measures import LINE, Measure
from bsglib.papers import StudyParameters
from bsglib.papers.keskar.published import NETWORKS
from bsglib.params import NotNegative, Parameters, Positive, PositiveFloat, RunConfig, distinct
from bsglib.sweep import Entry

Sizes = Annotated[list[Positive], AfterValidator(distinct)]

SB, LB = "SB", "LB"
SIZES, SWITCH, EVOLUTION = "batch sizes", "warm start", "evolution"
RATES, UPDATES, LOSS = "learning rates", "equal updates", "equal loss"

SHARPNESS = "keskar_sharpness"  # columns of the runs
HALF, SUBSPACE, SUBSPACE_HALF = "half_box", "subspace", "subspace_half_box"
ADAPTIVE, LONG = "adaptive", "long"
CHOICES = {  # column: how the measure differs from the one in SHARPNESS or SUBSPACE
    "literal_scale": {"objective_scale": 1.0},
    "batch_statistics": {"batch_norm": "batch"},
    "unit_columns": {"distribution": "gaussian_unit"},
    "uniform_columns": {"distribution": "uniform_unit"},
}


class Network(Parameters):
    """One of the source's networks: its data, its two batch sizes, and what else is varied."""

    model: Literal["f1", "f2", "c1", "c2"]  # C3 and C4 are C1 and C2 on CIFAR-100
    width: float = Field(default=1.0, gt=0)
    dropout: float | None = Field(default=None, ge=0, lt=1)  # None: as in the source
    dataset: str
    train_size: int | None = Field(default=None, gt=0)
    small_batch: int = Field(gt=0)
    large_batch: int = Field(gt=0)
    epochs: int = Field(gt=0)  # at most
    seeds: Annotated[list[NotNegative], Field(min_length=1), AfterValidator(distinct)]
    optional: bool = False  # leave it out where its data are not at hand
    choices: bool = False  # vary how the sharpness is measured
    batch_sizes: Sizes = []  # besides the two
    switch_epochs: Sizes = []  # small-batch epochs of a warm start
    evolution_epochs: Sizes = []  # at which runs end, to see the sharpness change
    lrs: Annotated[list[PositiveFloat], AfterValidator(distinct)] = []  # to choose from per batch
    equal_updates_epochs: int | None = Field(default=None, gt=0)  # of the small batch
    equal_loss: float | None = Field(default=None, gt=0)  # training loss at which runs stop

    @property
    def computable(self) -> bool:
        """Return whether its data are at hand, or have to be."""
        return not self.optional or at_hand(self.dataset)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.small_batch >= self.large_batch:
            raise ValueError(
                f"parameters 'small_batch' = {self.small_batch} and 'large_batch' = "
                f"{self.large_batch}: the first has to be smaller"
            )
        if not self.batch_sizes and (self.switch_epochs or self.evolution_epochs or self.lrs):
            raise ValueError("a network that is varied needs 'batch_sizes', too")
        if missing := set(self.switch_epochs) - set(self.evolution_epochs):
            raise ValueError(
                f"parameter 'switch_epochs': {min(missing)} is not in 'evolution_epochs', which "
                "tell how good the small batch was when it stopped"
            )
        return self


class KeskarParameters(StudyParameters):
    """What the notebook and the parameter files set; comments stand in the notebook."""

    networks: dict[Literal[NETWORKS], Network]
    validation_fraction: float = Field(gt=0, lt=1)
    dtype: Literal["float64", "float32", "bfloat16"]
    lr: float = Field(gt=0)
    patience: int | None = Field(gt=0)
    epsilon: float = Field(gt=0)
    subspace: int = Field(gt=0)
    adaptive_epsilon: float = Field(gt=0)
    max_iter: int = Field(gt=0)
    long_iter: int = Field(gt=0)
    sharpness_examples: int = Field(gt=0)
    curvature_examples: int = Field(gt=0)
    line_examples: int = Field(gt=0)
    line_points: int = Field(ge=4)

    @field_validator("line_points")
    @classmethod
    def _hits_both_ends(cls, value: int) -> int:
        if value % 3 != 1:
            raise ValueError("0 and 1 are on the line from -1 to 2 with 4, 7, 10, ... points")
        return value


def label(network: str, kind: str) -> str:
    """Return the name of an arm in tables."""
    return f"{network}, {kind}"


def design(p: KeskarParameters) -> list[Entry]:
    """Return the runs: SB and LB of every network, then what varies them, then their rivals."""
    parts = (_main,), (_sizes, _switch, _evolution), (_rates,), (_updates, _loss)
    return [
        Entry(config, tuple(measures), label(name, kind), part, optional=network.optional)
        for part, kinds in enumerate(parts, start=1)
        for name, network in p.networks.items()
        for seed in network.seeds
        for of_kind in kinds
        for kind, config, measures in of_kind(p, network, seed)
    ]


Planned = list[tuple[str, RunConfig, list[Measure]]]  # kind, run, measures


def _main(p: KeskarParameters, network: Network, seed: int) -> Planned:
    """SB and LB from the same initial weights, measured in every way, and the lines between."""
    small, large = (_config(p, network, seed, b) for b in _two(network))
    measures = _every_measure(p, network)
    lines = [
        Measure(LINE, p.line_examples, {"points": p.line_points, "path": path}, small)
        for path in ("linear", "curvilinear")
    ]
    return [(SB, small, measures), (LB, large, [*measures, *lines])]


def _sizes(p: KeskarParameters, network: Network, seed: int) -> Planned:
    if not network.batch_sizes:
        return []
    sizes = sorted({*_two(network), *network.batch_sizes})
    return [(SIZES, _config(p, network, seed, b), [_sharpness(p)]) for b in sizes]


def _switch(p: KeskarParameters, network: Network, seed: int) -> Planned:
    """Some epochs with the small batch, then as many with the large one as it has alone."""
    small, large = _two(network)
    configs = [_config(p, network, seed, large)] if network.switch_epochs else []
    for k in network.switch_epochs:
        first = {"first_epochs": k, "first_batch_size": small}
        configs.append(_config(p, network, seed, large, epochs=k + network.epochs, **first))
    return [(SWITCH, config, [_sharpness(p)]) for config in configs]


def _evolution(p: KeskarParameters, network: Network, seed: int) -> Planned:
    """The same run stopped early: same seed, same order of the data, same updates until then."""
    return [
        (EVOLUTION, _config(p, network, seed, b, epochs=e, patience=None), [_sharpness(p)])
        for b in _two(network)
        for e in network.evolution_epochs
    ]


def _rates(p: KeskarParameters, network: Network, seed: int) -> Planned:
    lrs = sorted({p.lr, *network.lrs}) if network.lrs else []
    return [
        (RATES, _config(p, network, seed, b, base_lr=lr), [_sharpness(p)])
        for b in _two(network)
        for lr in lrs
    ]


def _updates(p: KeskarParameters, network: Network, seed: int) -> Planned:
    if network.equal_updates_epochs is None:
        return []
    size = network.large_batch / network.small_batch
    epochs = network.equal_updates_epochs, round(network.equal_updates_epochs * size)
    return [
        (UPDATES, _config(p, network, seed, b, epochs=e, patience=None), [_sharpness(p)])
        for b, e in zip(_two(network), epochs, strict=True)
    ]


def _loss(p: KeskarParameters, network: Network, seed: int) -> Planned:
    if network.equal_loss is None:
        return []
    stop = {"patience": None, "target_loss": network.equal_loss, "epochs": 2 * network.epochs}
    return [(LOSS, _config(p, network, seed, b, **stop), [_sharpness(p)]) for b in _two(network)]


def _two(network: Network) -> tuple[int, int]:
    return network.small_batch, network.large_batch


def _config(
    p: KeskarParameters, network: Network, seed: int, batch_size: int, **changes: Any
) -> RunConfig:
    options = {"width": network.width}
    if network.dropout is not None:
        options["dropout"] = network.dropout
    values = {
        "dataset": network.dataset,
        "train_size": network.train_size,
        "validation_fraction": p.validation_fraction,
        "network": network.model,
        "network_options": options,
        "optimizer": "adam",
        "base_lr": p.lr,
        "batch_size": batch_size,
        "epochs": network.epochs,
        "patience": p.patience,
        "patience_on": "loss",
        "evaluate": "log",
        "dtype": p.dtype,
        "seed": seed,
    }
    return RunConfig(**values | changes)


def _sharpness(p: KeskarParameters, column: str = SHARPNESS, **options: Any) -> Measure:
    options = {"epsilon": p.epsilon, "max_iter": p.max_iter} | options
    name = "" if column == SHARPNESS else column
    return Measure(SHARPNESS, p.sharpness_examples, options, label=name)


def _every_measure(p: KeskarParameters, network: Network) -> list[Measure]:
    half, subspace = {"epsilon": p.epsilon / 2}, {"subspace": p.subspace}
    measures = [
        _sharpness(p),
        _sharpness(p, HALF, **half),
        _sharpness(p, SUBSPACE, **subspace),
        _sharpness(p, SUBSPACE_HALF, **subspace, **half),
        _sharpness(p, ADAPTIVE, epsilon=p.adaptive_epsilon, adaptive=True),
        Measure("lambda_max", p.curvature_examples),
        Measure("hessian_trace", p.curvature_examples),
    ]
    if network.choices:
        measures.append(_sharpness(p, LONG, max_iter=p.long_iter))
        for column, options in CHOICES.items():
            space = subspace if "distribution" in options else {}
            measures.append(_sharpness(p, column, **space, **options))
    return measures
