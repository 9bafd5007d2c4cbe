"""The protocol of Keskar et al.: parameters, arms, which runs and measures."""

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from bsglib.data import at_hand
from bsglib.runs.measures import LINE, OUTCOMES, Measure
from bsglib.runs.params import (
    Ascending,
    NotNegative,
    Parameters,
    Positive,
    PositiveFloat,
    RunConfig,
    distinct,
    of_seed,
    split_seed,
)
from bsglib.runs.sweep import Entry
from bsglib.studies.confirmatory import of_every_run
from bsglib.studies.keskar.published import NETWORKS
from bsglib.studies.parameters import Seeds, SharpnessParameters, TrainingParameters

Sizes = Annotated[list[Positive], AfterValidator(distinct)]

SB, LB = "SB", "LB"  # batches; the others of a network have no name
MAIN = "as in the paper"  # conditions
SIZES, SWITCH, EVOLUTION = "batch sizes", "warm start", "evolution"
RATES, UPDATES, LOSS = "learning rates", "equal updates", "equal loss"

SHARPNESS = "keskar_sharpness"  # columns of the runs
HALF, SUBSPACE, SUBSPACE_HALF = "half_box", "subspace", "subspace_half_box"
ADAPTIVE, LONG = "adaptive", "long"
BATCH_STATISTICS, BATCH_HALF = "batch_statistics", "batch_half_box"  # of batch norm
BATCH_SUBSPACE, BATCH_SUBSPACE_HALF = "batch_subspace", "batch_subspace_half_box"
CHOICES = {  # column: how the measure differs from the one in SHARPNESS or SUBSPACE
    "literal_scale": {"objective_scale": 1.0},
    BATCH_STATISTICS: {"batch_norm": "batch"},
    "unit_columns": {"distribution": "gaussian_unit"},
    "uniform_columns": {"distribution": "uniform_unit"},
}


class Network(Parameters):
    """One of the paper's networks: its data, its two batch sizes, and other variations."""

    model: Literal["f1", "f2", "c1", "c2"]  # C3 and C4 are C1 and C2 on CIFAR-100
    width: float = Field(default=1.0, gt=0)
    dropout: float | None = Field(default=None, ge=0, lt=1)  # None: as in the paper
    dataset: str
    train_size: int | None = Field(default=None, gt=0)
    small_batch_size: int = Field(gt=0)
    large_batch_size: int = Field(gt=0)
    epochs: int = Field(gt=0)  # at most
    seeds: Seeds
    optional: bool = False  # leave it out where its data are not at hand
    choices: bool = False  # vary how the sharpness is measured
    other_batch_sizes: Sizes = []  # besides the two
    switch_epochs: Sizes = []  # small-batch epochs of a warm start
    evolution_epochs: Sizes = []  # at which runs end, to see the sharpness change
    lrs: Annotated[list[PositiveFloat], AfterValidator(distinct)] = []  # to choose from per batch
    lr_seeds: Annotated[list[NotNegative], AfterValidator(distinct)] = []  # that try them; []: all
    equal_updates_epochs: int | None = Field(default=None, gt=0)  # of the small batch
    equal_loss: float | None = Field(default=None, gt=0)  # training loss at which runs stop
    curvature_epochs: Ascending = []  # among evolution_epochs: curvature is measured after them
    sharpness_examples: Positive | None = None  # where the study's would take too long
    curvature_examples: Positive | None = None

    @property
    def computable(self) -> bool:
        """Return whether its data are at hand, or have to be."""
        return not self.optional or at_hand(self.dataset)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.small_batch_size >= self.large_batch_size:
            raise ValueError(
                f"parameters 'small_batch_size' = {self.small_batch_size} and 'large_batch_size' = "
                f"{self.large_batch_size}: the first has to be smaller"
            )
        if not self.other_batch_sizes and (self.switch_epochs or self.evolution_epochs or self.lrs):
            raise ValueError("a network that is varied needs 'other_batch_sizes', too")
        if missing := set(self.switch_epochs) - set(self.evolution_epochs):
            raise ValueError(
                f"parameter 'switch_epochs': {min(missing)} is not in 'evolution_epochs', which "
                "tell how good the small batch was when it stopped"
            )
        return self


class KeskarParameters(TrainingParameters, SharpnessParameters):
    """What the notebook and the parameter files set; comments stand in the notebook."""

    networks: dict[Literal[NETWORKS], Network]
    lr: float = Field(gt=0)
    patience: int | None = Field(gt=0)
    subspace: int = Field(gt=0)
    adaptive_epsilon: float = Field(gt=0)
    long_iter: int = Field(gt=0)
    curvature_examples: int = Field(gt=0)
    line_examples: int = Field(gt=0)
    line_points: int = Field(ge=4)
    thorough: bool = False  # store all that a later rule may need

    @field_validator("line_points")
    @classmethod
    def _hits_both_ends(cls, value: int) -> int:
        if value % 3 != 1:
            raise ValueError("0 and 1 are on the line from -1 to 2 with 4, 7, 10, ... points")
        return value


def design(p: KeskarParameters) -> list[Entry]:
    """Return the runs: SB and LB of every network, then what varies them, then their rivals.

    Where the evolution is seen along SB and LB themselves, it is measured with them.
    """
    parts = (_main,), (_sizes, _switch, _evolution), (_rates,), (_updates, _loss)
    if p.patience is None:
        parts = (_main, _evolution), (_sizes, _switch), *parts[2:]
    return [
        _placed(entry, name, network, part)
        for part, kinds in enumerate(parts, start=1)
        for name, network in p.networks.items()
        for seed in network.seeds
        for of_kind in kinds
        for entry in of_kind(_with_examples_of(p, network), network, seed)
    ]


def _with_examples_of(p: KeskarParameters, network: Network) -> KeskarParameters:
    """Return the study's parameters with the numbers of examples that a network has of its own."""
    names = "sharpness_examples", "curvature_examples"
    own = {name: getattr(network, name) for name in names}
    return p.model_copy(update={name: value for name, value in own.items() if value is not None})


def _placed(entry: Entry, name: str, network: Network, part: int) -> Entry:
    """Return an entry, named SB, LB or its condition, with its network's name and its labels."""
    batch = dict(zip(_two(network), (SB, LB), strict=True)).get(entry.config.batch_size, "")
    condition = MAIN if entry.arm in (SB, LB) else entry.arm
    labels = {"network": name, "condition": condition, "batch": batch}
    arm = f"{name}, {entry.arm}"
    return replace(entry, arm=arm, part=part, optional=network.optional, labels=labels)


def _main(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    """SB and LB from the same initial weights, measured in every way, and the lines between."""
    small, large = (_main_config(p, network, seed, b) for b in _two(network))
    measures = _every_measure(p, network, seed)
    lines = [
        Measure(LINE, p.line_examples, {"points": p.line_points, "path": path}, small)
        for path in ("linear", "curvilinear")
    ]
    if p.thorough:
        lines = [replace(line, options=line.options | {"batch_norm": "batch"}) for line in lines]
        measures += _curvature_along(p, network, seed)
    return [Entry(small, tuple(measures), SB), Entry(large, (*measures, *lines), LB)]


def _main_config(
    p: KeskarParameters, network: Network, seed: int, batch_size: int, **changes: Any
) -> RunConfig:
    """Return a batch size's run; without patience the evolution is seen along SB's and LB's."""
    seen = p.patience is None and batch_size in _two(network)
    along = {"record_epochs": sorted(network.evolution_epochs)} if seen else {}
    changes = {"record_path": p.thorough} | along | changes
    return _config(p, network, seed, batch_size, **changes)


def _sizes(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    if not network.other_batch_sizes:
        return []
    sizes = sorted({*_two(network), *network.other_batch_sizes})
    return [Entry(_main_config(p, network, seed, b), _varied(p), SIZES) for b in sizes]


def _switch(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    """Some epochs with the small batch, then as many with the large one as it has alone."""
    small, large = _two(network)
    entries = []
    if network.switch_epochs:
        entries.append(Entry(_main_config(p, network, seed, large), _varied(p), SWITCH))
    for k in network.switch_epochs:
        first = {"first_epochs": k, "first_batch_size": small}
        config = _config(p, network, seed, large, epochs=k + network.epochs, **first)
        prefix = _along(p, network, seed, small)
        entries.append(Entry(config, _varied(p), SWITCH, prefix=prefix))
    return entries


def _evolution(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    """SB and LB after some of their epochs."""
    if not network.evolution_epochs:
        return []
    return [
        Entry(config, _metric(p, epoch), EVOLUTION, epoch=epoch)
        for config in (_along(p, network, seed, b) for b in _two(network))
        for epoch in network.evolution_epochs
    ]


def _along(p: KeskarParameters, network: Network, seed: int, batch_size: int) -> RunConfig:
    """Return the run that keeps its state after each of the `evolution_epochs`."""
    if p.patience is None:
        return _main_config(p, network, seed, batch_size)
    epochs = sorted(network.evolution_epochs)
    options = {"epochs": epochs[-1], "patience": None, "record_epochs": epochs}
    return _config(p, network, seed, batch_size, **options)


def _rates(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    if not network.lrs or seed not in (network.lr_seeds or network.seeds):
        return []
    return [
        Entry(_main_config(p, network, seed, b, base_lr=lr), _varied(p), RATES)
        for b in _two(network)
        for lr in sorted({p.lr, *network.lrs})
    ]


def _updates(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    if network.equal_updates_epochs is None:
        return []
    size = network.large_batch_size / network.small_batch_size
    epochs = network.equal_updates_epochs, round(network.equal_updates_epochs * size)
    return [
        Entry(_config(p, network, seed, b, epochs=e, patience=None), (_sharpness(p),), UPDATES)
        for b, e in zip(_two(network), epochs, strict=True)
    ]


def _loss(p: KeskarParameters, network: Network, seed: int) -> list[Entry]:
    if network.equal_loss is None:
        return []
    stop = {"patience": None, "target_loss": network.equal_loss, "epochs": 2 * network.epochs}
    configs = (_config(p, network, seed, b, **stop) for b in _two(network))
    return [Entry(config, (_sharpness(p),), LOSS) for config in configs]


def _two(network: Network) -> tuple[int, int]:
    return network.small_batch_size, network.large_batch_size


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
        "split_seed": split_seed(seed),
        "dtype": p.dtype,
        "seed": seed,
    }
    return RunConfig(**values | changes)


def _sharpness(
    p: KeskarParameters, column: str = SHARPNESS, *, epoch: int | None = None, **options: Any
) -> Measure:
    options = {"epsilon": p.epsilon, "max_iter": p.max_iter} | options
    name = "" if column == SHARPNESS else column
    return Measure(SHARPNESS, p.sharpness_examples, options, label=name, epoch=epoch)


def _metric(p: KeskarParameters, epoch: int | None = None) -> tuple[Measure, ...]:
    """Return the paper's metric, also with its batch-norm statistics if all is stored."""
    by_batch = [_sharpness(p, BATCH_STATISTICS, epoch=epoch, batch_norm="batch")] * p.thorough
    return _sharpness(p, epoch=epoch), *by_batch


def _varied(p: KeskarParameters) -> tuple[Measure, ...]:
    return *_metric(p), *[Measure(OUTCOMES, 0)] * p.thorough


def _every_measure(p: KeskarParameters, network: Network, seed: int) -> list[Measure]:
    half, subspace = {"epsilon": p.epsilon / 2}, {"subspace": p.subspace} | of_seed(seed)
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
    if p.thorough:
        measures += _for_later_rules(p, subspace, half)
    return list({measure.column: measure for measure in measures}.values())


def _for_later_rules(p: KeskarParameters, subspace: dict, half: dict) -> list[Measure]:
    """Return what a rule may need of runs whose weights are not kept."""
    batch = {"batch_norm": "batch"}  # the paper's statistics
    return [
        _sharpness(p, BATCH_STATISTICS, **batch),
        _sharpness(p, BATCH_HALF, **batch, **half),
        _sharpness(p, BATCH_SUBSPACE, **batch, **subspace),
        _sharpness(p, BATCH_SUBSPACE_HALF, **batch, **subspace, **half),
        Measure("sam_sharpness", p.sharpness_examples),
        *of_every_run(),
    ]


def _curvature_along(p: KeskarParameters, network: Network, seed: int) -> list[Measure]:
    """Return lambda_max and batch sharpness after each of the `curvature_epochs`, as columns."""
    return [
        Measure(name, p.curvature_examples, options, label=f"{name}_{epoch}", epoch=epoch)
        for epoch in network.curvature_epochs
        for name, options in (
            ("lambda_max", {}),
            ("batch_sharpness", {"batch_size": network.small_batch_size} | of_seed(seed)),
        )
    ]
