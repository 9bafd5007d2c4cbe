"""What every run of the profile `confirm` stores: its weights are not kept once it is measured."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bsglib.runs.measures import Measure
from bsglib.runs.params import PositiveFloat, distinct, split_seed
from bsglib.studies.parameters import SharpnessConfirm, SharpnessParameters

ADAPTIVE = "adaptive"  # column of the metric in the adaptive box
DRAWS = 32  # batches over which batch sharpness is averaged, fewer of large ones
BATCHES = 47  # over which Surlemont et al. sum the gradient of the metric
AUTHORS = "authors"  # column of the metric as the code of Chang, and of Surlemont et al., has it
Grid = Annotated[list[PositiveFloat], Field(min_length=6, max_length=6), AfterValidator(distinct)]


def of_every_run() -> tuple[Measure, ...]:
    """Return what every run stores: its answers to the test set, distances from the start."""
    return Measure("test_outcomes", 0), Measure("distances", 0)


def sharpness(
    p: SharpnessParameters, more: SharpnessConfirm, seed: int, *, rho: float = 0.05
) -> tuple[Measure, ...]:
    """Return every measure of sharpness that rules may ask for, of a network without batch norm."""
    box = {"epsilon": p.epsilon, "max_iter": p.max_iter}
    adaptive = box | {"epsilon": more.adaptive_epsilon, "adaptive": True}
    drawn = {"seed": split_seed(seed)}
    return (
        Measure("keskar_sharpness", p.sharpness_examples, box),
        Measure("keskar_sharpness", p.sharpness_examples, adaptive, label=ADAPTIVE),
        Measure("lambda_max", more.curvature_examples, drawn),
        Measure("hessian_trace", more.curvature_examples, drawn),
        Measure("sam_sharpness", p.sharpness_examples, {"rho": rho}),
    )


def by_authors(p: SharpnessParameters) -> Measure:
    """Return the metric as the authors' solver finds it, over as many batches as theirs.

    Each batch makes the solver's gradient longer, so that their number matters, not their size.
    """
    options = {"epsilon": p.epsilon, "max_iter": p.max_iter}
    options["batch_size"] = -(-p.sharpness_examples // BATCHES)
    name = "bsglib.studies.authors_solver:authors_sharpness"
    return Measure(name, p.sharpness_examples, options, label=AUTHORS)


def along_training(
    epochs: Sequence[int], seed: int, batch_size: int, examples: int, **options: Any
) -> tuple[Measure, ...]:
    """Return the curvature after some epochs: the largest of all, and along a batch's gradient."""
    options |= {"seed": split_seed(seed)}
    batches = {"batch_size": batch_size, "draws": max(8, min(DRAWS, 8192 // batch_size))}
    return tuple(
        measure
        for e in epochs
        for measure in (
            Measure("lambda_max", examples, options, label=f"lambda_max_at_{e}", epoch=e),
            Measure(
                "batch_sharpness",
                max(examples, 4 * batch_size),
                batches | options,
                label=f"batch_sharpness_at_{e}",
                epoch=e,
            ),
        )
    )
