"""The networks that Surlemont et al. trained themselves, measured by their solver and by ours.

Their repository, Alexanderstaehle/OM_project on GitHub, holds the weights of the 72 networks of
their second run. `published_models.csv` lists them with what its state files say of each;
`authors.csv` holds our measurements. The weights stay theirs and are not copied.
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bsglib import models, runtime
from bsglib.data import SOURCES, data_folder
from bsglib.evaluate import evaluate
from bsglib.names import nearest
from bsglib.runs.params import ParameterError
from bsglib.sharpness import keskar_sharpness, lambda_max
from bsglib.studies.authors_solver import authors_sharpness, sharpness_by_parts
from bsglib.studies.surlemont import published
from bsglib.studies.surlemont.checkpoints import CheckpointError, read
from bsglib.studies.surlemont.protocol import DATA

PUBLISHED, MEASURED = (
    Path(__file__).with_name(f"{n}.csv") for n in ("published_models", "authors")
)
REPOSITORY = "https://github.com/Alexanderstaehle/OM_project"
SIDE = 32  # pixels that their images are resized to
EPSILON, ITERATIONS, BATCH = 1e-2, 10, 1024  # of their sharpness
CURVATURE_EXAMPLES = 3000  # at most: a product with the Hessian costs several gradients
SETS = "train", "validation", "test"
THEIRS, OURS = "theirs", "ours"
ALL_STEPS, TRUE_GRADIENT = "theirs, 20 line-search steps", "theirs, mean gradient"
BY_PARTS, CURVATURE = "ours, ascent over parts", "lambda_max"
MEASURES = (*SETS, THEIRS, OURS, BY_PARTS, ALL_STEPS, TRUE_GRADIENT, CURVATURE)
OF_ALL = (*SETS, THEIRS, BY_PARTS)  # taken over all examples
COMPARED = THEIRS, OURS, BY_PARTS
SOLVED = (*COMPARED, ALL_STEPS, TRUE_GRADIENT)
LARGEST = "largest found"
AT_HAND = SETS[1:]  # cheap ones, taken first of all models
DIGITS = 4  # after the point, of the published losses and accuracies


class Images(NamedTuple):
    """Network inputs x [n, 1, 32, 32] in float32, and labels y int64 [n]."""

    x: Tensor
    y: Tensor

    def first(self, n: int) -> "Images":
        """Return the first n of them."""
        return Images(self.x[:n], self.y[:n])


def published_models() -> pd.DataFrame:
    """Return the authors' networks and what they published of each, those of SGD first.

    Columns: model (its file), optimizer, rate, label (in the source), method and rho (in the code),
    batch_size, validation_loss and validation_accuracy of the epoch with the smallest such loss,
    and sharpness. The stored weights are of that epoch, also where the run reached its last one:
    the only such run with another best epoch shows it.
    """
    rows = pd.read_csv(PUBLISHED)
    rank = rows.assign(adam=rows["optimizer"] == "adam", fixed=rows["rate"] == "fixed")
    order = rank.sort_values(["adam", "batch_size", "fixed"], kind="stable").index
    return rows.loc[order].reset_index(drop=True)


def weights_folder(folder: str | Path) -> Path:
    """Return where the checkpoints lie in a clone of the authors' repository, or in its code/tmp.

    Raises:
        ParameterError: if there are none.
    """
    folder = Path(folder).expanduser()
    names = published_models()["model"]
    for place in (folder, folder / "code" / "tmp"):
        if any((place / f"{name}.index").is_file() for name in names):
            return place
    raise ParameterError(
        f"--weights {folder}: {names[0]}.index is not there; needed is a clone of {REPOSITORY}"
    )


def network(folder: Path, name: str) -> nn.Module:
    """Return one of the authors' networks, in float32.

    Keras stores kernels as height, width, input, output, and flattens images channels last.

    Raises:
        CheckpointError: if its file is missing or damaged, or holds another network.
    """
    tensors, model = read(folder / name), models.build("surlemont", (1, SIDE, SIDE), 10).float()
    within = "base_model/" if any(key.startswith("base_model/") for key in tensors) else ""
    layers = [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]
    try:
        for place, layer in enumerate(layers):
            kernel, bias = (
                torch.tensor(
                    tensors[f"{within}layer_with_weights-{place}/{part}/.ATTRIBUTES/VARIABLE_VALUE"]
                )
                for part in ("kernel", "bias")
            )
            if isinstance(layer, nn.Linear):  # [height * width * channels, classes]
                side, channels = SIDE // 4, layers[place - 1].out_channels
                kernel = kernel.reshape(side, side, channels, layer.out_features)
            kernel = kernel.permute(3, 2, 0, 1).reshape(layer.weight.shape)
            layer.load_state_dict({"weight": kernel, "bias": bias})
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{folder / name}: not the network of the paper ({error})") from error
    return model.eval()


def tfds_order(n: int, split: str) -> np.ndarray:
    """Return the positions in a data set's files of the examples that tensorflow_datasets gives.

    It orders examples by the MD5 digest of the split's name and their key, here their position as
    text.

    Args:
        n: examples in the split.
        split: its name.
    """
    digests = [hashlib.md5(f"{split}{key}".encode()).digest() for key in range(n)]
    return np.array(sorted(range(n), key=digests.__getitem__))


def images(examples: int | None = None) -> dict[str, Images]:
    """Return the authors' sets: "train", "validation", and "test", which they never used.

    The first four fifths of Fashion-MNIST's training part in the order of tensorflow_datasets, the
    last fifth, and the test part; pixels in [0, 1], bilinearly resized to 32 x 32.

    Args:
        examples: only so many of each set; None for all.

    Raises:
        DataError: if the data are missing.
    """  # noqa: DOC502
    source = SOURCES[DATA](data_folder())
    order = tfds_order(len(source.y), "train")
    parts = {"train": order[: published.EXAMPLES], "validation": order[published.EXAMPLES :]}
    found = {name: (source.x[part], source.y[part]) for name, part in parts.items()}
    found["test"] = source.x_test, source.y_test
    return {name: _as_inputs(x[:examples], y[:examples]) for name, (x, y) in found.items()}


def _as_inputs(x: np.ndarray, y: np.ndarray) -> Images:
    pixels = torch.from_numpy(np.array(x)).float() / 255
    resized = nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
    device = runtime.device()
    return Images(resized.to(device), torch.from_numpy(np.array(y)).to(device))


def measurements(file: Path = MEASURED) -> pd.DataFrame:
    """Return a row per measurement, with the columns of `published_models`."""
    return published_models().merge(pd.read_csv(file, comment="#"), on="model")


def results(file: Path = MEASURED) -> pd.DataFrame:
    """Return the authors' networks with what is published and what was measured of each.

    Columns: those of `published_models`; the value of each measurement under its name, of sharpness
    over all training images only, NaN where it was not made; `validation_accuracy_measured`,
    `test_accuracy`; and LARGEST, the largest of the published sharpness and of ours of
    COMPARED, which all are lower bounds of the same maximum, NaN without BY_PARTS.
    """
    long = measurements(file)
    long = long[~long["measure"].isin(SOLVED) | (long["n"] == published.EXAMPLES)]
    values = long.pivot(index="model", columns="measure", values="value").reindex(columns=MEASURES)
    correct = long.pivot(index="model", columns="measure", values="accuracy").reindex(columns=SETS)
    values["validation_accuracy_measured"] = correct["validation"]
    values["test_accuracy"] = correct["test"]
    rows = published_models().merge(values, how="left", left_on="model", right_index=True)
    largest = rows[["sharpness", *COMPARED]].max(axis=1).where(rows[BY_PARTS].notna())
    return rows.assign(**{LARGEST: largest})


def agreeing(rows: pd.DataFrame) -> pd.Series:
    """Return whether validation loss and accuracy of `results` are the published ones.

    Published are four digits after the point. A rounding error of float32 sums is allowed beyond.
    """
    near = 0.5 * 10.0**-DIGITS + 1e-5
    loss = (rows["validation"] - rows["validation_loss"]).abs() < near
    return loss & (
        (rows["validation_accuracy_measured"] - rows["validation_accuracy"]).abs() < near
    )


# ------------------------------------------------------------- measurements


def measure(name: str, model: nn.Module, sets: dict[str, Images], examples: int) -> dict[str, Any]:
    """Return a measurement of a network: value, n, and what else its function records.

    Args:
        name: one of MEASURES: the loss on a set, sharpness by the authors' solver, by ours, by ours
            with ascents over parts of the images, by theirs with one of its deviations corrected,
            or the Hessian's largest eigenvalue.
        model: on the device of the sets.
        sets: of `images`.
        examples: of the training set, for all but the losses and the authors' sharpness, which take
            all. Their solver's batches shrink alike, so that their number is the authors'.

    Raises:
        ParameterError: if the name is unknown.
    """
    train = sets["train"]
    some = train.first(examples)
    batch = max(1, round(BATCH * len(some.y) / len(train.y)))
    take: dict[str, Callable[[], Any]] = {
        **{part: lambda part=part: evaluate(model, *sets[part]) for part in SETS},
        THEIRS: lambda: authors_sharpness(model, *train, batch_size=BATCH),
        OURS: lambda: keskar_sharpness(model, *some, epsilon=EPSILON, max_iter=ITERATIONS),
        BY_PARTS: lambda: sharpness_by_parts(model, *train, epsilon=EPSILON, max_iter=ITERATIONS),
        ALL_STEPS: lambda: authors_sharpness(model, *some, batch_size=batch, line_search_steps=20),
        TRUE_GRADIENT: lambda: authors_sharpness(model, *some, batch_size=batch, gradient="mean"),
        CURVATURE: lambda: lambda_max(model, *some.first(CURVATURE_EXAMPLES)),
    }
    if name not in take:
        raise ParameterError(f"measure {name!r}{nearest(name, take)}")
    found = dataclasses.asdict(take[name]())
    if name in SETS:
        found["value"] = found["loss"]
    found.pop("values", None)
    return found


COLUMNS = (
    "model", "measure", "value", "n", "accuracy", "loss", "returned_loss", "largest_loss",
    "max_loss", "iterations", "evaluations", "stop", "residual", "products", "device", "seconds",
)  # fmt: skip


def examine(
    folder: Path,
    out: Path,
    *,
    only: str = "",
    measures: Sequence[str] = MEASURES,
    examples: int = published.EXAMPLES,
    time_limit_s: float | None = None,
) -> Iterator[tuple[int, int, str]]:
    """Measure the authors' networks into a CSV, a row each; rows that are there are kept.

    Measurements over other numbers of examples are rows of their own.

    Args:
        folder: of the checkpoints, as `weights_folder` returns it.
        out: the CSV.
        only: networks whose name contains this.
        measures: some of MEASURES.
        examples: of the training set, as in `measure`.
        time_limit_s: begin no further measurement after so many seconds; None for no limit.

    Yields:
        before each measurement the number of finished ones, of all, and its name.

    Raises:
        ParameterError: if a measure is unknown, no network is left, or the CSV is something else.
    """
    for name in measures:
        if name not in MEASURES:
            raise ParameterError(f"measure {name!r}{nearest(name, MEASURES)}")
    chosen = [name for name in published_models()["model"] if only in name]
    if not chosen:
        raise ParameterError(f"--only {only}: in no name such as {published_models()['model'][0]}")
    rows = _rows_of(out)
    done = {(row["model"], row["measure"]) for row in rows if row["measure"] in OF_ALL}
    done |= {(row["model"], row["measure"], row["n"]) for row in rows}
    most = {name: examples for name in MEASURES} | {CURVATURE: min(examples, CURVATURE_EXAMPLES)}
    plan = [(model, name) for model in chosen for name in MEASURES if name in measures]
    plan.sort(key=lambda pair: pair[1] not in AT_HAND)
    todo = [pair for pair in plan if not done & {pair, (*pair, most[pair[1]])}]
    began, sets = time.monotonic(), images() if todo else {}
    for model, name in todo:
        if time_limit_s is not None and time.monotonic() - began > time_limit_s:
            return
        yield len(plan) - len(todo), len(plan), f"{model}: {name}"
        started = time.process_time()
        found = measure(name, network(folder, model).to(runtime.device()), sets, examples)
        spent = {"device": runtime.device().type, "seconds": time.process_time() - started}
        rows.append({"model": model, "measure": name} | found | spent)
        _write(out, rows)
        todo = todo[1:]


def _rows_of(out: Path) -> list[dict[str, Any]]:
    if not out.is_file():
        return []
    table = pd.read_csv(out, comment="#")
    if missing := {"model", "measure", "value"} - set(table):
        raise ParameterError(f"{out}: no table of this command, it lacks {sorted(missing)}")
    return table.to_dict("records")


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    table, partial = pd.DataFrame(rows, columns=COLUMNS), out.with_name(f".{out.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(f"# Measured on the weights in {REPOSITORY}, code/tmp; see authors.py\n")
        table.to_csv(file, index=False, float_format="%.7g", lineterminator="\n")
    os.replace(partial, out)
