"""Parameters that studies share, in groups: a study's parameters are made of those it has."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bsglib.runs.params import (
    Ascending,
    MoreSeeds,
    NotNegative,
    Option,
    Parameters,
    Positive,
    distinct,
    split_seed,
)

Seeds = Annotated[list[NotNegative], Field(min_length=1), AfterValidator(distinct)]
BatchSizes = Annotated[list[Positive], Field(min_length=2), AfterValidator(distinct)]


class StudyParameters(Parameters):
    """What every study's notebook and parameter files may set."""

    profile: str
    store: str | None  # folder of the run store; None: $BSG_STORE, else runs/ of the project
    figures: str | None  # folder for SVG and CSV of every figure; None: keep none
    compute: bool  # compute what is missing; False: report what is there
    workers: int | None = Field(ge=0)  # processes; None: one per core, 0: this one
    scheduler: str | None  # address of a Dask cluster


class TrainingParameters(StudyParameters):
    """What all runs of a study have in common."""

    validation_fraction: float = Field(gt=0, lt=1)
    dtype: Literal["float64", "float32", "bfloat16"]


class DatasetParameters(TrainingParameters):
    """What a study of one data set and one network has."""

    dataset: str
    train_size: int | None = Field(gt=0)
    network_options: dict[str, Option]
    seeds: Seeds

    def of_run(self, seed: int) -> dict[str, Any]:
        """Return the fields of a run's config that these parameters and a seed determine."""
        return {
            "dataset": self.dataset,
            "train_size": self.train_size,
            "validation_fraction": self.validation_fraction,
            "split_seed": split_seed(seed),
            "network_options": self.network_options,
            "dtype": self.dtype,
            "seed": seed,
        }


class SweepParameters(DatasetParameters):
    """What a study has whose arms all have the same batch sizes."""

    image_size: int | None = Field(gt=0)
    batch_sizes: BatchSizes
    more_seeds: MoreSeeds
    epochs: int = Field(gt=0)

    def of_run(self, seed: int) -> dict[str, Any]:
        """Return the fields of a run's config that these parameters and a seed determine."""
        return super().of_run(seed) | {"image_size": self.image_size, "epochs": self.epochs}

    @property
    def smallest(self) -> int:
        """Return the smallest batch size."""
        return min(self.batch_sizes)

    @property
    def largest(self) -> int:
        """Return the largest batch size."""
        return max(self.batch_sizes)


class SharpnessParameters(Parameters):
    """How Keskar's sharpness is measured."""

    epsilon: float = Field(gt=0)
    max_iter: int = Field(gt=0)
    sharpness_examples: int = Field(gt=0)


class TimingParameters(Parameters):
    """How epochs are timed."""

    timing_samples: int = Field(gt=0)
    timing_repeats: int = Field(ge=0)


class Confirm(Parameters):
    """What profiles `confirm` set: their runs store all that a rule may need."""

    record_epochs: Ascending  # after which curvature is measured along training
    recorded_seeds: Annotated[list[NotNegative], AfterValidator(distinct)]  # of those runs
    curvature_examples: int = Field(gt=0)
    control_epochs: int = Field(gt=0)


class SharpnessConfirm(Confirm):
    """What they set where sharpness is measured."""

    adaptive_epsilon: float = Field(gt=0)
    control_rho: float = Field(gt=0)
