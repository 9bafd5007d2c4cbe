"""Tables, rows and notes that the notebook on Surlemont et al. shows."""

import pandas as pd

from bsglib.papers import Results
from bsglib.papers.surlemont.protocol import RHO_SWEEP, SGD_SAM, Parameters


def scope(p: Parameters) -> pd.DataFrame:
    """Return what differs from the source: quantity, paper, here, why."""
    sizes = ", ".join(map(str, p.batch_sizes))
    seeds = f"{len(p.seeds)}, mean and range"
    rows = [
        ("data", "Fashion-MNIST, 60,000", f"{p.dataset}, {p.train_size:,}", "time"),
        ("network", "32 and 64 filters", f"{p.network}, {p.network_options}", "time"),
        ("initial weights", "not stated (Keras)", "Glorot uniform, biases 0", "Keras' default"),
        ("batch sizes", "32 to 1024", sizes, "as the paper"),
        ("SGD learning rate at B = 32", "0.001", f"{p.sgd_lr:g}", _same(p.sgd_lr == 0.001)),
        ("Adam learning rate at B = 32", "0.001", f"{p.adam_lr:g}", _same(p.adam_lr == 0.001)),
        ("epochs, at most", "500", f"{p.epochs}", _same(p.epochs == 500)),
        ("stop", "10 epochs without a better training accuracy", f"{p.patience}", "as the paper"),
        ("SAM radius", "not stated", f"{p.rho:g}", "default of the code it cites"),
        ("dropout with SAM", "probably off, by the code it cites", "on; off as arms", "to compare"),
        ("sharpness on", "not stated", f"{p.sharpness_examples:,} training images", "time"),
        ("box half-width", "0.01", f"{p.epsilon:g}", _same(p.epsilon == 0.01)),
        ("accuracy of choices", "validation or test, mixed", "a validation part", "test untouched"),
        ("seeds", "1", seeds, "to have an interval"),
        (
            "arithmetic",
            "float32",
            p.dtype,
            "the same digits everywhere" if p.dtype == "float64" else "as the paper",
        ),
    ]
    return pd.DataFrame(rows, columns=["quantity", "paper", "here", "why"]).set_index("quantity")


def _same(same: bool) -> str:
    return "as the paper" if same else "time"


def error_ratio(runs: pd.DataFrame) -> pd.Series:
    """Return train error over test error of each run, which the source's figure 3 shows."""
    return (1 - runs["train_accuracy"]) / (1 - runs["test_accuracy"])


def sharpness_note(p: Parameters) -> str:
    """Return how sharpness was measured, for captions."""
    return (
        f"Box half-width {p.epsilon:g}, at most {p.max_iter} iterations of L-BFGS-B, full space, "
        f"mean cross-entropy of {p.sharpness_examples:,} training examples without dropout."
    )


def epoch_times(results: Results) -> pd.DataFrame:
    """Return the timed epochs: batch_size, sam, repeat, seconds."""
    times = results.timings
    columns = ["batch_size", "sam", "repeat", "seconds"]
    return times[columns] if len(times) else pd.DataFrame(columns=columns, dtype=float)


def epoch_time_ratios(results: Results) -> pd.DataFrame:
    """Return batch_size, repeat, and the time with SAM over the time without."""
    times = epoch_times(results)
    if times.empty:
        return pd.DataFrame(columns=["batch_size", "repeat", "ratio"], dtype=float)
    table = times.pivot(index=["batch_size", "repeat"], columns="sam", values="seconds")
    return (table[True] / table[False]).rename("ratio").reset_index()


def timing_note(results: Results) -> str:
    """Return the caption of the figure of times: machine, repeats, samples."""
    times, p = results.timings, results.parameters
    if times.empty:
        return "**Time per epoch against batch size.** Not measured yet."
    machine = f"{times['processor'].iloc[0]}, {times['threads'].iloc[0]} thread"
    return (
        f"**Time per epoch against batch size, without and with SAM, and their ratio (n = "
        f"{times['repeat'].nunique()} interleaved repeats).** {machine}. Each is scaled to an "
        f"epoch from {p.timing_samples:,} training examples, evaluation excluded. Small marks: "
        "repeats; large: their mean. Answers the paragraph on runtime in section V."
    )


def rho_rows(results: Results) -> pd.DataFrame:
    """Return the runs of SGD with scaled rate and SAM at the largest batch, over all radii."""
    runs = results.of(SGD_SAM.label, RHO_SWEEP)
    return runs[runs["batch_size"] == max(results.parameters.batch_sizes)].sort_values("rho")
