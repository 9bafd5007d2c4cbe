"""Parameters of runs and reports; unknown or mistyped parameters are refused."""

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from bsglib.names import nearest

FIRST_CONFIRMATORY_SEED = 10

Option = bool | int | float | str | None
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type, or out of range."""


def distinct(values: list) -> list:
    """Return a list as it is.

    Raises:
        ValueError: if a value occurs twice.
    """
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ValueError(f"{twice[0]} occurs twice")
    return values


def ascending(values: list) -> list:
    """Return a list as it is.

    Raises:
        ValueError: if a value does not exceed the one before it.
    """
    if any(after <= before for before, after in itertools.pairwise(values)):
        raise ValueError("values have to increase")
    return values


def not_among_seeds(values: list, info: ValidationInfo) -> list:
    """Return a list as it is.

    Raises:
        ValueError: if a value is also in the parameter 'seeds'.
    """
    if again := [value for value in values if value in info.data.get("seeds", ())]:
        raise ValueError(f"{again[0]} is already in 'seeds'")
    return values


MoreSeeds = Annotated[
    list[NotNegative], AfterValidator(distinct), AfterValidator(not_among_seeds)
]  # of some arms only, besides 'seeds'


Ascending = Annotated[list[Positive], AfterValidator(ascending)]
Augmentation = Literal["flip", "rotate", "shift"]  # `bsglib.runs.augment`


class Parameters(BaseModel):
    """Base class of parameters: frozen, strictly typed, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RunConfig(Parameters):
    """Everything that determines the numbers of one training run."""

    # The data.
    dataset: str  # a name, an .npz file or a folder of images
    image_size: int | None = Field(default=None, gt=0)  # side in pixels, of a folder of images
    train_size: int | None = Field(default=None, gt=0)  # examples to train on; None: all
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)  # of the official training part
    split_seed: int = Field(default=0, ge=0)  # of what is set aside
    standardise: bool = False  # inputs of mean 0 and deviation 1 per channel, by the training part

    # The network and its optimizer.
    network: str
    network_options: dict[str, Option] = {}
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    rho: float | None = Field(default=None, ge=0)  # radius of SAM; None: the plain optimizer
    sam_adaptive: bool = False  # the radius is relative to each weight
    sam_dropout: bool = True  # False: dropout off in both passes of SAM
    proximal: float | None = Field(default=None, ge=0)  # lambda of `Proximal`; None: one plain step
    proximal_steps: int = Field(default=3, gt=0)  # inner steps of an update

    # The examples as training sees them; no evaluation and no measure does.
    augment: Annotated[list[Augmentation], AfterValidator(distinct), AfterValidator(sorted)] = []
    adversarial: float | None = Field(default=None, gt=0)  # FGSM's step, in units of the inputs
    adversarial_weight: float = Field(default=0.5, gt=0, lt=1)  # of the loss on its examples

    # Batch size and learning rate.
    batch_size: int = Field(gt=0)
    base_lr: float = Field(gt=0)
    reference_batch_size: int = Field(default=32, gt=0)  # at which the scaled rate is base_lr
    scaling: Literal["none", "linear", "sqrt"] = "none"  # of the rate with the batch size
    warmup: Literal["none", "constant", "linear", "exponential", "doubling"] = "none"  # `Schedule`
    warmup_epochs: float = Field(default=0.0, ge=0)  # how long it lasts, rounded to whole updates
    shuffle: Literal["every", "once"] = "every"  # epoch anew, or one order for all epochs
    first_epochs: int = Field(default=0, ge=0)  # with first_batch_size; then the optimizer restarts
    first_batch_size: int | None = Field(default=None, gt=0)  # of the first_epochs
    local_workers: int = Field(default=1, gt=0)  # of local SGD, batch_size examples each per step
    local_steps: int = Field(default=1, gt=0)  # of each worker, until weights are averaged

    # When it ends, and which weights are kept.
    epochs: int = Field(gt=0)  # at most, the first_epochs included
    patience: int | None = Field(default=None, gt=0)  # stop after so many epochs without gain
    patience_on: Literal["accuracy", "loss", "validation_loss"] = "accuracy"  # the first two as run
    target_loss: float | None = Field(default=None, gt=0)  # stop when the running loss is below
    keep: Literal["last", "best", "best_if_stopped"] = "last"  # best: of lowest validation loss;
    # best_if_stopped: these if patience ended the run, else the last ones

    # What is recorded, and how it is computed.
    evaluate: Literal["every", "log", "validation", "test", "last"] = "every"  # when what: `train`
    evaluate_as_run: bool = False  # the test set in training mode as well: `train`
    record_path: bool = False  # norms of updates, distances, and weights at log-spaced epochs
    record_epochs: Annotated[
        list[Positive], AfterValidator(ascending)
    ] = []  # state kept after them
    dtype: Literal["float64", "float32", "bfloat16"] = "float32"
    seed: int = Field(default=0, ge=0)  # of the initial weights, the order and dropout

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        given = self.first_epochs > 0, self.first_batch_size is not None
        if any(given) and not (all(given) and self.first_epochs < self.epochs):
            raise ValueError(
                f"parameters 'first_epochs' = {self.first_epochs} and 'first_batch_size' = "
                f"{self.first_batch_size}: allowed are both, with 'first_epochs' below 'epochs' = "
                f"{self.epochs}, or neither"
            )
        return self

    @model_validator(mode="after")
    def _records_epochs_that_come(self) -> Self:
        if self.record_epochs and self.record_epochs[-1] > self.epochs:
            raise ValueError(
                f"parameter 'record_epochs' = {self.record_epochs}: allowed are values up to "
                f"'epochs' = {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _warmup_has_a_length(self) -> Self:
        given = self.warmup != "none", self.warmup_epochs > 0
        if any(given) and (not all(given) or self.first_epochs):
            raise ValueError(
                f"parameters 'warmup' = {self.warmup!r} and 'warmup_epochs' = "
                f"{self.warmup_epochs}: allowed are both, without 'first_epochs', or neither"
            )
        return self

    @model_validator(mode="after")
    def _doubling_has_an_epoch(self) -> Self:
        if self.warmup == "doubling" and self.warmup_epochs < 1:
            raise ValueError(
                f"parameter 'warmup_epochs' = {self.warmup_epochs}: with 'warmup' = 'doubling' "
                "allowed are values from 1"
            )
        return self

    @model_validator(mode="after")
    def _sam_has_a_radius(self) -> Self:
        if self.rho is None and (self.sam_adaptive or not self.sam_dropout):
            raise ValueError(
                f"parameters 'sam_adaptive' = {self.sam_adaptive} and 'sam_dropout' = "
                f"{self.sam_dropout}: these need a radius 'rho' of SAM"
            )
        return self

    @model_validator(mode="after")
    def _strategies_have_a_strength(self) -> Self:
        for name, of in (("proximal_steps", "proximal"), ("adversarial_weight", "adversarial")):
            value = getattr(self, name)
            if getattr(self, of) is None and value != type(self).model_fields[name].default:
                raise ValueError(f"parameter {name!r} = {value}: needs {of!r}")
        return self

    @model_validator(mode="after")
    def _one_strategy_per_update(self) -> Self:
        names = "rho", "proximal", "adversarial"
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            found = " and ".join(f"{name!r} = {getattr(self, name)}" for name in given)
            raise ValueError(f"parameters {found}: allowed is one of {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _workers_take_plain_steps(self) -> Self:
        names = "proximal", "augment", "adversarial"
        given = [name for name in names if getattr(self, name) not in (None, [])]
        if self.local_workers > 1 and given:
            raise ValueError(
                f"parameters 'local_workers' = {self.local_workers} and {given[0]!r} = "
                f"{getattr(self, given[0])}: local workers take plain steps on the data as they are"
            )
        return self

    @model_validator(mode="after")
    def _workers_have_no_state(self) -> Self:
        plain = self.optimizer == "sgd" and not self.momentum and self.rho is None
        if self.local_workers > 1 and (not plain or self.record_path or self.first_epochs):
            raise ValueError(
                f"parameter 'local_workers' = {self.local_workers}: needs plain SGD without "
                "'momentum', 'rho', 'record_path' and 'first_epochs'"
            )
        return self

    @model_validator(mode="after")
    def _validation_loss_is_known(self) -> Self:
        if self.keep != "last" and self.patience_on != "validation_loss":
            raise ValueError(
                f"parameter 'keep' = {self.keep!r}: needs 'patience_on' = 'validation_loss', found "
                f"{self.patience_on!r}"
            )
        known = self.evaluate in ("every", "validation") and self.validation_fraction > 0
        if self.patience_on == "validation_loss" and not known:
            raise ValueError(
                "parameter 'patience_on' = 'validation_loss': needs 'evaluate' = 'every' or "
                f"'validation' and a 'validation_fraction' above 0, found {self.evaluate!r} and "
                f"{self.validation_fraction}"
            )
        return self

    def canonical(self) -> str:
        """Return the config as JSON with normalised types and sorted keys, without defaults.

        Without defaults, a new field keeps the identity of stored runs.
        """
        values = self.model_dump(exclude_defaults=True)
        if "network_options" in values:  # their types are not declared: 1 and 1.0 are one number
            values["network_options"] = {
                name: float(value) if type(value) is int else value
                for name, value in self.network_options.items()
            }
        return json.dumps(values, sort_keys=True)


def split_seed(seed: int) -> int:
    """Return the seed of the data split of a run's seed.

    From FIRST_CONFIRMATORY_SEED on, a seed also determines the split and the training subset. The
    seeds below it are exploratory and share one split.
    """
    return seed if seed >= FIRST_CONFIRMATORY_SEED else 0


def of_seed(seed: int) -> dict[str, int]:
    """Return the options of a random measure: the run's seed, 0 for exploratory seeds."""
    return {"seed": seed} if seed >= FIRST_CONFIRMATORY_SEED else {}


class _Loader(yaml.SafeLoader):
    """Refuse a name that occurs twice; YAML would use the last one."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                found = f"{key.value!r} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, found, key.start_mark)
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def read(file: Path) -> dict:
    """Return the values of a parameter file.

    Raises:
        ParameterError: if the file cannot be read or does not hold names and values.
    """
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"parameter file {file}: {error}") from error
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"holds {values!r} ({type(values).__name__})"
        raise ParameterError(f"parameter file {file} {found}; it needs lines 'name: value'")
    return values


Model = TypeVar("Model", bound=BaseModel)


def check(namespace: Mapping[str, Any], model: type[Model]) -> Model:
    """Return a notebook's checked parameters; the first code cell of every notebook calls this.

    Papermill accepts a misspelt name and ignores type hints. Here every plain value in the
    notebook's namespace has to be a parameter of the right type.

    Args:
        namespace: the notebook's `globals()`. Modules, functions, classes and names that begin
            with an underscore are not parameters, nor are names that other cells assign.
        model: the study's parameters.

    Raises:
        ParameterError: naming the parameter, the value, and what is allowed.
        SystemExit: if the notebook's .py runs as a script; the message tells how to run it.
    """
    cells = namespace.get("In")
    if cells is None and namespace.get("__name__") == "__main__":
        name = Path(namespace["__file__"]).stem
        raise SystemExit(
            f"{name}.py is a notebook: open it with `make lab`, or run it with `bsg report {name}`"
        )
    plain = (bool, int, float, str, list, tuple, dict, set, type(None))
    fields = set(model.model_fields)
    names = set(namespace) if cells is None else fields | _assigned(cells, fields)
    values = {
        name: namespace[name]
        for name in names
        if name in namespace and not name.startswith("_") and isinstance(namespace[name], plain)
    }
    return parse(values, model)


def _assigned(cells: Sequence[str], fields: set[str]) -> set[str]:
    # From the last parameters cell on: a second pass through the notebook still holds the names
    # that cells after the check gave in the first.
    assigned = []
    for cell in cells:
        try:
            tree = ast.parse(cell)
        except SyntaxError:  # a magic command
            tree = ast.Module([], [])
        targets = [t for node in tree.body for t in getattr(node, "targets", [])]
        targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
        assigned.append({t.id for t in targets if isinstance(t, ast.Name)})
    whole = [i for i, names in enumerate(assigned) if len(names & fields) > len(fields) / 2]
    return set().union(*assigned[whole[-1] if whole else 0 :])


def parse(values: Mapping[str, Any], model: type[Model]) -> Model:
    """Return `model` built from `values`.

    Raises:
        ParameterError: naming the parameter, the value, and what is allowed.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ParameterError("\n".join(_explain(e, model) for e in error.errors())) from None


def _explain(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    if not error["loc"]:  # about several parameters: the message names them
        return error["msg"].removeprefix("Value error, ")
    name, value = ".".join(map(str, error["loc"])), error["input"]
    allowed = sorted(model.model_fields)
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        return f"unknown parameter {name!r}{nearest(name, allowed)}"
    if error["type"] == "missing":
        return f"parameter {name!r} is missing."
    message = f"parameter {name!r} = {value!r} ({type(value).__name__}): {error['msg']}"
    if error["type"] == "literal_error":  # "'a', 'b' or 'c'"
        return message + nearest(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    if isinstance(value, str) and error["type"] in {"float_type", "int_type"}:
        message += "; YAML reads 1e-3 as text, write 0.001 or 1.0e-3"
    return message + "."
