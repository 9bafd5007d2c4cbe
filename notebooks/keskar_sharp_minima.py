# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Do large batches end in sharp minima that generalize worse?
#
# Keskar et al. trained six networks with a small batch (*SB*) and with a large batch of a tenth of the data
# (*LB*). They report that both reach the same training accuracy, that LB has lower test accuracy, and that LB
# ends in sharper minima. They published their sharpness metric as a formula only. This report repeats their
# tables and figures over several seeds, with a tested implementation of the metric. It then measures the gap
# that remains when the learning rate is tuned, or when the number of updates or the training loss is made
# equal. A verdict on a claim has three parts: the direction of the effect, its size beside the paper's, and
# the scale of the runs. The page on verdicts in docs/ explains the rules.

# %% tags=["parameters"]
profile: str = "quick"  # name of this set of parameters
store = None  # str: folder of the run store; None: $BSG_STORE, else runs/
figures = None  # str: folder for SVG and CSV of every figure; None: keep none
compute: bool = True  # train what is missing; False: report what is there
workers = None  # int: processes; None: one per core, 0: this one
scheduler = None  # str: address of a Dask cluster; None: this machine
networks: dict = {  # of F1, F2, C1, C2, C3, C4; the parameter files say what can stand in one
    "F1": {
        "model": "f1",
        "width": 0.125,  # factor of the sizes of hidden layers
        "dataset": "digits",  # or mnist, cifar10, cifar100, spoken_digits, the path of an .npz
        "train_size": 640,  # training examples; None: all
        "small_batch_size": 8,
        "large_batch_size": 64,
        "epochs": 8,  # at most
        "seeds": [15, 16, 17, 18, 19],  # each draws weights, order and masks anew
        "choices": True,  # vary how the sharpness is measured
    },
    "C1": {
        "model": "c1",
        "width": 0.125,
        "dropout": 0.1,  # less than the source's: little of the narrow layers is to spare
        "dataset": "digits",
        "train_size": 640,
        "small_batch_size": 16,
        "large_batch_size": 64,
        "epochs": 12,
        "seeds": [15, 16, 17, 18, 19],
        "other_batch_sizes": [32],  # besides the two
        "switch_epochs": [1, 3],  # small-batch epochs of a warm start
        "evolution_epochs": [1, 3, 12],  # at which runs end, to see the sharpness change
        "lrs": [0.003, 0.01],  # besides lr, to choose from for each batch size
        "equal_updates_epochs": 6,  # of the small batch; the large one gets as many updates
    },
}
validation_fraction: float = 0.1  # of the training part, set aside for choices
dtype: str = "float64"  # or float32, bfloat16
lr: float = 0.001  # of Adam, at every batch size
patience = None  # int: stop after so many epochs without a lower training loss; None: never
epsilon: float = 0.001  # half-width of the sharpness box, relative to |weight| + 1; and its half
subspace: int = 100  # dimensions of the random subspace
adaptive_epsilon: float = 0.01  # half-width relative to |weight| alone
max_iter: int = 10  # iterations of L-BFGS-B
long_iter: int = 20  # to see how far they stop short
sharpness_examples: int = 128  # training examples the sharpness is measured on
curvature_examples: int = 64  # and the Hessian
line_examples: int = 128  # training and test examples along the lines
line_points: int = 25  # of alpha from -1 to 2

# %% [markdown]
# ## Scope relative to the paper
#
# The tables list what the paper does, what this report does, and why they differ. The claims come from the
# slides of a talk. Their numbers and set-up come from the paper behind the talk (Keskar et al. 2017).

# %%
import pandas as pd
import torch
from IPython.display import Markdown

from bsglib.figures import plots, show, style
from bsglib.landscape import interpolate
from bsglib.pages import provenance
from bsglib.runs.params import check
from bsglib.sharpness import keskar_sharpness
from bsglib.stats import PERCENT
from bsglib.studies import keskar, source
from bsglib.studies.keskar import as_run, protocol, tables
from bsglib.studies.keskar.protocol import LB, MAIN, SB
from bsglib.studies.tables import arms, readings, regression, worked_out

parameters = check(globals(), keskar.KeskarParameters)
style.use_style()
show.keep_in(figures)
print(provenance.setting(parameters.profile))
show.table(tables.scope(parameters), "scope")
show.table(tables.networks(parameters), "networks")

# %% [markdown]
# **Sharpness** (metric 2.1 of the paper) is the largest relative increase of the loss $f$ in a box around the
# weights $x$, in per cent. The box lies in the full space ($A$ is the identity) or in a random subspace:
#
# $$\phi_{x,f}(\epsilon, A) = 100 \, \frac{\max_{y \in C} f(x + A y) - f(x)}{1 + f(x)}$$
#
# $$C = \{y : |y_i| \le \epsilon (|(A^+ x)_i| + 1)\}$$
#
# A few iterations of L-BFGS-B search for the maximum. The result is a lower bound, inexact by design.
#
# ### A known truth first
#
# On a convex quadratic the maximum is at a corner of the box and has a closed form. Half the box has a
# smaller maximum.

# %% tags=["check"]
slope, curvature = torch.linspace(1e-4, 1e-2, 8).double(), torch.linspace(0.1, 2, 8).double()
line = torch.nn.Linear(8, 1, bias=False).double()
torch.nn.init.constant_(line.weight, 0.5)
quadratic = lambda w, y: 8 * (slope * w[:, 0] + curvature * w[:, 0] ** 2 / 2).sum()  # noqa: E731
x, start = torch.eye(8).double(), quadratic(torch.full((8, 1), 0.5).double(), None).item() / 8
for half_width in (epsilon, epsilon / 2):
    measured = keskar_sharpness(line, x, torch.zeros(8), epsilon=half_width, loss=quadratic).value
    b = half_width * 1.5
    growth = ((slope + 0.5 * curvature) * b + curvature * b**2 / 2).sum().item()
    expected = 100 * growth / (1 + start)
    assert abs(measured / expected - 1) < 1e-9
    print(f"measured {measured:.6f}, expected {expected:.6f}, ratio {measured / expected:.6f}")

# %% [markdown]
# ## The method in the open
#
# A small and a large batch train from the same initial weights. The loss is then evaluated on the line
# between their two minimizers:
#
# $$f(\alpha \, x_{LB} + (1 - \alpha) \, x_{SB})$$
#
# The first cell trains a tiny network with both batch sizes. The second compares the midpoint of the line
# with the formula.

# %% tags=["check"]
x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
y, net, ends = (x.prod(1) > 0).long(), torch.nn.Linear(4, 2).double(), {}
for batch, size in ((SB, 8), (LB, 64)):
    torch.nn.init.zeros_(net.weight), torch.nn.init.zeros_(net.bias)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for part in torch.arange(64).repeat(10).split(size):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[part]), y[part]).backward()
        optimizer.step()
    ends[batch] = {name: weight.clone() for name, weight in net.state_dict().items()}

# %% tags=["check"]
alpha = 0.5
path = interpolate(net, ends[SB], ends[LB], {"train": (x, y)}, alphas=[-1, 0, alpha, 1, 2])
net.load_state_dict(
    {name: alpha * ends[LB][name] + (1 - alpha) * ends[SB][name] for name in ends[SB]}
)
half_way = torch.nn.functional.cross_entropy(net(x), y).item()
assert abs(path.set_index("alpha")["loss"][alpha] / half_way - 1) < 1e-12
path.round(4)

# %% [markdown]
# ## The runs
#
# Within a seed, SB and LB share their initial weights. *SB* and *LB* are the paper's comparison. The other
# arms vary the batch size, the warm start, the length of training or the learning rate, or they equalize one
# quantity. Running averages of batch norm lag behind by whole epochs at a large batch. So batch norm is
# re-estimated on the whole training set at the end of each run and before each evaluation of accuracy.

# %%
results = keskar.study.run(parameters)
results

# %%
show.table(arms(results), "arms")

# %% [markdown]
# ## Training and test accuracy
#
# > Standard training with a large batch: great training, deficient testing performance. With a small batch:
# > great training, great testing performance.
# >
# > Keskar, slides; Keskar et al. 2017, table 2

# %%
show.table(tables.accuracy(results), "accuracy")

# %%
results.verdicts(figure="accuracy")

# %% [markdown]
# Accuracies are in per cent: mean and standard deviation over seeds. The claims compare differences of SB and
# LB. Each claim's note has the differences in test loss and in training accuracy: a gap that is one of
# training accuracy is not a generalization gap. A claim on minima requires a training accuracy of nine tenths from
# runs that no rule stopped; below it the claim is not testable. This does not show that training had
# converged. The next table counts the runs that stopped at the maximum number of epochs. Their accuracies
# might still have changed.

# %%
names = list(results.runs["network"].unique())
ends = results.of(condition=MAIN)
stops = ends.groupby("arm", sort=False)["stopped"].value_counts()
stops.unstack(fill_value=0).rename_axis(columns="runs by stopping criterion")

# %% [markdown]
# The table works out one verdict: the value of each seed, the mean and its intervals, what is claimed, what
# counts as no effect, and the verdict.

# %%
show.table(worked_out(results, "keskar-f1-gap"), "worked-out")

# %% [markdown]
# ## Training curves
#
# > Test accuracy of F2 and C1 during training: the large batch levels off below the small batch, and more
# > epochs do not close the gap.
# >
# > Keskar et al. 2017, figure 2
#
# The section on rival explanations trains the large batch for more epochs.

# %%
history = results.history_of(condition=MAIN)
history.groupby("arm", sort=False)[["train_accuracy", "test_accuracy"]].max().round(3)

# %%
fig, axes = style.panels(2, len(names), height=4.4, sharex="col", sharey="row")
for row, part in zip(axes, ("train", "test"), strict=True):
    for ax, name in zip(row, names, strict=False):
        curves = history[history["network"] == name]
        curves = curves.assign(percent=PERCENT * curves[f"{part}_accuracy"])
        label = f"{tables.PARTS[part]} accuracy (%)"
        plots.plot_curves(curves, ax, column="percent", label=label, log=False)
        ax.label_outer()
        style.title(ax, f"{name}: {tables.PARTS[part]}")
show.figure(
    fig,
    "curves",
    "Training and test accuracy against epochs, small and large batch",
    ends,
    rows=history,
    drawn=["train_accuracy", "test_accuracy"],
    detail="Networks in evaluation mode. Numbers at the line ends: batch size.",
    marks="curves",
    compare="figure 2 of the paper",
)

# %% [markdown]
# Check in each pair whether the upper curve is flat while the lower one still rises. At equal epochs the
# large batch has made few updates. A curve that still rises shows too little training, not a generalization
# gap.

# %% [markdown]
# ## Sharpness
#
# > Sharpness of the minimizers in the full space, for two box sizes: LB is sharper by one to two orders of
# > magnitude in all six networks.
# >
# > Keskar, slides; Keskar et al. 2017, table 3

# %%
show.table(tables.sharpness(results, subspace=False), "sharpness")

# %% [markdown]
# > The same in a random subspace of a hundred dimensions.
# >
# > Keskar et al. 2017, table 4
#
# A different type of processor can change the third digits here. The solver's line search compares losses.
# Along the long columns of $A$, a difference in the last bit can change its result.

# %% tags=["nbval-ignore-output"]
show.table(tables.sharpness(results, subspace=True), "sharpness-subspace")

# %%
results.verdicts(figure="sharpness")

# %% [markdown]
# The authors' code has batch statistics in batch norm, so the claims use these where they were measured. The
# paper states neither the distribution of $A$ nor the scale of the objective. All of these change the values,
# so the claims compare ratios of LB to SB, with the paper's ratio beside ours. Where another registered
# measure speaks against the paper's (frozen statistics, the adaptive box, the largest eigenvalue, other
# columns of $A$), the verdict is "depends on the measure". Sharpness also depends on the training loss.
# Compare the ratio with the losses below.

# %% [markdown]
# ### Other measures of the same minimizers
#
# > In later work: reparametrizations make any minimum of a ReLU network as sharp as one likes.
# >
# > Keskar, slides, "Theoretical and Practical Developments", on Dinh et al. 2017
#
# The next table therefore adds three measures: a box that scales with each weight and is invariant to such a
# reparametrization, the largest eigenvalue of the Hessian, and the trace of the Hessian.

# %%
show.table(tables.other_measures(results), "other-measures")

# %%
stop = "keskar_sharpness.stop"
solver = ends.reindex(columns=["network", "batch", stop, "keskar_sharpness.iterations"])
solver.groupby(["network", "batch", stop], sort=False).agg(["size", "mean"])

# %% [markdown]
# If the measures disagree on which minimizer is sharper, the result depends on the definition of sharpness.
# The next table regresses the logarithm of sharpness on those of batch size, rate and training loss. An
# exponent of one means that sharpness is proportional. Where each seed has runs enough, exponents are means
# over seeds.

# %%
final = results.runs[results.runs["condition"] != protocol.EVOLUTION]
show.table(regression(final, by="network"), "regression")

# %% [markdown]
# A solver that stops at its iteration limit has found a lower bound; the next table shows what more iterations
# add. More iterations amplify differences in a processor's last bits, as random subspaces do.

# %% tags=["nbval-ignore-output"]
show.table(tables.choices(results), "choices")

# %% [markdown]
# Compare two spreads: the effect of the choices that the paper leaves open, and the standard deviations over
# seeds above. If a row is below one, the order of LB and SB depends on a choice that the paper does not
# state. The solver climbs from the minimizer to a local maximum. In a
# subspace with long columns, another starting point can find a higher maximum.

# %% [markdown]
# ## Parametric plots: the line between the minimizers
#
# > Training and test loss and accuracy at $\alpha x_{LB} + (1 - \alpha) x_{SB}$: the LB minimizers are
# > strikingly sharper than the SB minimizers.
# >
# > Keskar, slides, "Parametric Plots"; Keskar et al. 2017, figure 3

# %%
rows = results.of(condition=MAIN, batch=LB)
linear, curved = (tables.points(results, path) for path in ("linear", "curvilinear"))
line_note = (
    f"{parameters.line_points} points, {parameters.line_examples:,} training examples (thin) and as "
    f"many test examples (thick), {as_run.on_lines(results)}."
)
linear.groupby(["network", "set"], sort=False)["loss"].agg(["min", "median", "max"]).round(3)

# %%
theirs = source.read("keskar", "lines", network=names)
fig = plots.line_panels(
    {name: linear[linear["network"] == name] for name in names},
    paper={name: theirs[theirs["network"] == name] for name in names},
)
show.figure(
    fig,
    "linear",
    "Loss and accuracy on the line between the small and the large batch's minimizers",
    rows,
    rows=linear,
    detail=line_note,
    marks="bands",
    paper=theirs,
    compare="figure 3 of the paper",
)

# %%
results.verdicts(figure="linear")

# %% [markdown]
# Compare how steeply the loss rises on both sides of each hairline. Do not compare distances from the middle.
# The two minimizers share one line but not one scale of weights: a minimizer with smaller weights looks
# sharper on it.

# %% [markdown]
# > The same lines of a deep ConvNet on CIFAR-10, which the paper does not show.
# >
# > Keskar, slides, "Parametric Plots"

# %%
theirs = source.read("keskar", "lines", network="deep ConvNet")
theirs = theirs.assign(percent=PERCENT * theirs["accuracy"])
points = linear[linear["network"] == "C2"]
points = points.assign(percent=PERCENT * points["accuracy"])
fig, axes = style.panels(1, 2, height=2.8)
panels = ("loss", "loss (nats)", True), ("percent", "accuracy (%)", False)
for ax, (column, label, log) in zip(axes[0], panels, strict=True):
    plots.plot_line(points, ax, column=column, label=label, log=log, paper=theirs)
    style.title(ax, f"C2 and the slides: {label.split()[0]}")
show.figure(
    fig,
    "linear-slides",
    "Loss and accuracy on the line between two minimizers: the slides' ConvNet, and C2 here",
    rows[rows["network"] == "C2"],
    rows=points,
    detail=line_note,
    marks="bands",
    paper=theirs,
    compare="the slide of that plot",
)

# %% [markdown]
# > The same on the curved path $\sin(\alpha \pi / 2) \, x_{LB} + \cos(\alpha \pi / 2) \, x_{SB}$.
# >
# > Keskar et al. 2017, appendix D, figure 7

# %%
fig = plots.line_panels({name: curved[curved["network"] == name] for name in names})
show.figure(
    fig,
    "curvilinear",
    "Loss and accuracy on the curved path between the small and the large batch's minimizers",
    rows,
    rows=curved,
    detail=line_note,
    marks="bands",
    compare="figure 7 of the paper",
)

# %% [markdown]
# ## What is wrong with sharp minima?
#
# > A simplistic explanation: the test loss is the training loss, shifted a little. The shift then raises the
# > loss at a sharp minimum and not at a flat one.
# >
# > Keskar, slides, "What's Wrong With Sharp Minima?", drawn there

# %%
near = linear[linear["alpha"].between(-0.5, 1.5)]
tables.shift(near)

# %%
fig = plots.line_panels({name: near[near["network"] == name] for name in names}, accuracy=False)
show.figure(
    fig,
    "shift",
    "Training and test loss along the same line, around the two minimizers",
    rows,
    rows=near,
    detail=line_note,
    marks="bands",
    compare='the slide "What\'s Wrong With Sharp Minima?"',
)

# %% [markdown]
# The explanation requires a shift: the test loss has its minimum beside the minimum of the training loss. If
# the test loss lies above the training loss along the whole line, it is raised, not shifted. Sharpness then
# does not predict the gap.

# %% [markdown]
# ## Sharpness and accuracy against batch size
#
# > Sharpness grows with the batch size. Beyond a threshold the test accuracy falls.
# >
# > Keskar et al. 2017, figure 4 (F2 and C1)

# %%
varied = tables.varied(results)
rows = results.of(condition=protocol.SIZES)
show.table(tables.thresholds(results), "thresholds")

# %%
theirs = source.read("keskar", "batch_sizes", network=varied)
fig, axes = style.panels(2, len(varied), height=4.6, sharex="col")
for column, name in zip(axes.T, varied, strict=False):
    lines = {name: rows[rows["network"] == name]}
    plots.plot_against_batch_size(
        lines, column[0], column="keskar_sharpness", label=tables.PHI, log=True, legend=False
    )
    plots.plot_against_batch_size(
        lines, column[1], column="test_accuracy", label="test accuracy (%)", scale=PERCENT,
        legend=False, paper=theirs[theirs["network"] == name],
    )  # fmt: skip
    column[0].set_xlabel("")
    style.title(column[0], f"{name}: sharpness")
    style.title(column[1], f"{name}: test accuracy")
show.figure(
    fig,
    "batch-sizes",
    "Sharpness and test accuracy against batch size",
    rows,
    paper=theirs,
    compare="figure 4 of the paper",
)

# %%
results.verdicts(figure="batch-sizes")

# %% [markdown]
# All batch sizes share one learning rate and one maximum number of epochs. A larger batch therefore changes
# both the noise of an update and the number of updates. The section on rival explanations separates the two.

# %% [markdown]
# ## Warm start: from a small to a large batch
#
# > Switching from SB to LB works, but has to be timed just right: after enough small-batch epochs the large
# > batch keeps their accuracy and flatness.
# >
# > Keskar, slides, "Other Observations"; Keskar et al. 2017, figure 5

# %%
rows = results.of(condition=protocol.SWITCH)
switched = tables.warm_start(results)
rows.groupby(["arm", "first_epochs"])[["test_accuracy", "keskar_sharpness"]].mean().round(3)

# %%
fig, axes = style.panels(2, len(varied), height=4.6, sharex="col")
theirs = source.read("keskar", "warm_start", network=varied)
path = {"x": "small_batch_epochs", "order": "small_batch_epochs"}
for column, name in zip(axes.T, varied, strict=False):
    mine, epochs = switched[switched["network"] == name], "small-batch epochs"
    as_long = theirs["small_batch_epochs"] <= 2 * mine["small_batch_epochs"].max()
    path["paper"] = theirs[as_long & (theirs["network"] == name)]
    plots.plot_path(mine, column[0], y="percent", labels=(epochs, "test accuracy (%)"), **path)
    plots.plot_path(mine, column[1], y="keskar_sharpness", labels=(epochs, tables.PHI), **path)
    column[0].set_xlabel("")
    style.title(column[0], f"{name}: test accuracy")
    style.title(column[1], f"{name}: sharpness")
show.figure(
    fig,
    "warm-start",
    "Test accuracy and sharpness against the small-batch epochs before the switch",
    rows,
    rows=switched,
    paper=theirs,
    detail="Path of the large batch: at the end, after the switch; of the small batch: at the switch.",
    compare="figure 5 of the paper",
)

# %%
results.verdicts(figure="warm-start")

# %% [markdown]
# A warm start also adds updates. Compare the large batch after the switch with the small batch at the switch.
# If the large batch is no better, the small batch made the gain and the switch only kept it.

# %% [markdown]
# ## Evolution of sharpness
#
# > As we descend down the loss, SB sharpness keeps decreasing and LB sharpness keeps increasing.
# >
# > Keskar, slides, "Evolution of Sharpness"; Keskar et al. 2017, figure 6

# %%
rows = results.of(condition=protocol.EVOLUTION)
rows.groupby(["arm", "batch_size", "epochs"])[["train_loss", "keskar_sharpness"]].mean().round(3)

# %%
theirs = source.read("keskar", "evolution", network=varied)
fig, axes = style.panels(1, len(varied), height=2.9)
for ax, name in zip(axes[0], varied, strict=False):
    mine, axis = rows[rows["network"] == name], ("training loss (nats)", tables.PHI)
    plots.plot_path(
        mine, ax, x="train_loss", y="keskar_sharpness", order="epochs", labels=axis,
        log=(True, True), paper=theirs[theirs["network"] == name],
    )  # fmt: skip
    style.title(ax, name)
show.figure(
    fig,
    "evolution",
    "Sharpness against training loss as training goes on",
    rows,
    paper=theirs,
    detail="Training proceeds from right to left; batch sizes are printed at the last epoch.",
    compare="figure 6 of the paper",
)

# %%
results.verdicts(figure="evolution")

# %% [markdown]
# The metric divides by one plus the loss, so a falling loss alone raises it. Compare the two paths where they
# cross the same training loss.

# %% [markdown]
# ## Does sharpness go with poor generalization?
#
# > Sharp minima correlate with poor generalization.
# >
# > Keskar, slides, "The Why Hypothesis"
#
# Two batch sizes are too few for a correlation. This section therefore uses a grid of batch sizes and
# learning rates within one network. Like the granulated rank correlation of Jiang et al. 2020, ours compares
# only configurations that differ in one of the two axes; groups count by their size. Permutations of the
# configurations judge it. Along the batch size, the batch size may drive both quantities. Along the rate at
# one batch size, it cannot.

# %%
rows = tables.grid(results)
tables.correlations(results)

# %%
fig, axes = style.panels(1, len(varied), height=2.9)
for ax, name in zip(axes[0], varied, strict=False):
    mine, axis = rows[rows["network"] == name], (tables.PHI, "test error (%)")
    plots.plot_path(
        mine, ax, x="keskar_sharpness", y="percent_error", order="base_lr", labels=axis,
        log=(True, False),
    )  # fmt: skip
    style.title(ax, name)
show.figure(
    fig,
    "correlation",
    "Test error against sharpness over batch sizes and learning rates",
    rows,
    detail="Each line joins the learning rates of one batch size, printed at the largest rate. "
    "Configurations with a diverged or untrained run are left out.",
    compare="a statement of the slides",
)

# %%
results.verdicts(figure="correlation")

# %% [markdown]
# A correlation within one network says nothing about another network, so no networks are pooled. If the paths
# of single batch sizes run against the trend over batch sizes, sharpness is a marker of the batch size rather
# than a cause of the error.

# %% [markdown]
# ## Rival explanations
#
# > It cannot be an optimization issue, and it cannot be a regularization issue.
# >
# > Keskar, slides
#
# Other authors attribute a gap at equal epochs and one learning rate to too few or wrongly sized updates
# (Shallue et al. 2019; Hoffer et al. 2017). This section equalizes one quantity at a time: the epochs; the
# learning rate, as a mean over every rate at which both batches are trained; the number of updates; the
# training loss at which runs stop. The notes of the claims on rates add the comparison with each batch's best
# rate by validation accuracy; a best rate at an end of the grid is not testable. *LB trained longer* compares
# the large batch of the comparison at equal updates with the paper's small batch. Where SB and LB ran to the
# same maximum of epochs, "equal epochs" uses the runs of the paper's comparison.

# %%
rows = tables.rivals(results)
show.table(tables.what_is_left(rows), "what-is-left")

# %%
fig, axes = style.panels(len(varied), 2, height=0.4 + 1.9 * len(varied), sharey="row")
for row, name in zip(axes, varied, strict=False):
    mine = rows[(rows["network"] == name) & (rows["unfit"] == "")]
    plots.plot_conditions(mine, row[0], column="gap", label="SB - LB (points)", none=0)
    plots.plot_conditions(
        mine, row[1], column="sharpness_ratio", label="sharpness LB / SB", none=1, log=True
    )
    style.title(row[0], f"{name}: test accuracy")
    style.title(row[1], f"{name}: sharpness")
show.figure(
    fig,
    "rivals",
    "Gap in test accuracy and ratio of sharpness, small and large batch, by equalized quantity",
    results.of(network=varied, condition=list(tables.RIVALS)),
    rows=rows,
    detail="Bars: 95 % interval of the mean. Conditions without a valid comparison are not drawn.",
)

# %%
results.verdicts(figure="rivals")

# %% [markdown]
# The paper's explanation requires a gap at equal updates and at equal training loss. A gap that another rate
# removes is an effect of the rate, not of the batch size. A condition changes more than its name says. At
# equal updates the large batch has seen many times the data; at equal epochs both batches may be
# undertrained. The training losses show this.

# %% [markdown]
# ## Not yet run
#
# Some statements need runs of their own: data augmentation, conservative and adversarial training, full-batch
# methods with line search, and other activations and architectures. The same holds for the paper's surfaces
# of C2, the tables from Hoffer et al. and Goyal et al., and the distances of minimizers from the initial
# weights.

# %%
results.verdicts(figure="verdicts")

# %% [markdown]
# ## What explains the difference
#
# The paper does not say how its networks were evaluated. Its authors' public script for the parametric plots
# does. So the source has two readings: *as written*, the set-up of the text, and *as run*, that of the script.
# Claims name the reading that they judge. The table lists where the two differ.

# %%
show.table(as_run.set_ups(parameters), "set-ups")

# %% [markdown]
# Batch norm with batch statistics is another function of the weights than batch norm with frozen statistics:
# it renormalizes whatever a change of the weights does to the activations. The next table compares SB and LB
# under both readings. A quantity that this profile measures under one reading only has a dash. The networks of
# the script always use batch statistics. So the paper's ratio, from its table, most likely belongs to the
# reading as run.

# %%
show.table(as_run.readings(results), "readings")

# %% [markdown]
# The script trains SB and LB for few epochs; the paper trains until the loss no longer falls. The next table
# has accuracies in per cent: those of the paper's table, those at the ends of its plotted lines, and ours at
# the end, at the ends of our lines, and at the evaluated epoch nearest to the script's last one. Lines have
# their own statistics of batch norm and fewer examples.

# %%
show.table(as_run.accuracies(results), "accuracy-by-source")

# %%
Markdown(as_run.explained(results))

# %%
results.verdicts(figure="as-run")

# %%
show.table(readings(results), "claims-by-reading")

# %% [markdown]
# A reading explains a difference if our numbers move towards the paper's when we change to it. If a plotted
# network is trained further than ours after as many epochs, its training was longer than the public script
# says, or its data and width make the difference.

# %% [markdown]
# ## Conclusion
#
# The table lists every claim: where the paper makes it, the rule, our interval, and the verdict. Intervals
# are over seeds. Those of differences of test accuracy include the error of the test set where every answer
# was stored; those of rank correlations over configurations come from permutations.

# %%
show.table(results.verdicts(), "verdicts")

# %% [markdown]
# ## What speaks against the claims, and limits
#
# Two computed tables follow: the number of claims by direction and scale, and the claims against which the
# runs speak.

# %%
verdicts = results.verdicts().rows
counts = pd.crosstab(verdicts["verdict"], verdicts["scale"].replace("", "-"))
show.table(counts, "counts", keep=False)
against = verdicts["verdict"].isin(["opposite", "no effect", "depends on the measure"])
missed = verdicts.loc[against, ["statement", "words", "ours", "paper", "scale"]]
show.table(missed.set_index("statement"), "against", keep=False)

# %% [markdown]
# - The paper's sharpness values depend on choices that it does not state, so their ratios are compared.
# - The paper trained F2 on licensed speech data. This report uses frames of freely available spoken digits,
#   with the digit as label. Users can give the path of their own frames.
# - The paper stops SB and LB when the loss no longer falls. Here most runs reach the maximum number of epochs
#   first. Patience counts epochs, and a large batch makes few updates per epoch. So gaps in accuracy depend
#   on where training ends, as the row with longer runs of the large batch shows.
# - Seeds below ten share one random subspace. Intervals of rank correlations hold only for the batch sizes
#   and rates that were run.
# - Sharpness is measured on part of the training set, without dropout, at the final weights. On lines batch
#   norm uses the examples of the line, so the losses at their ends differ a little from those of the runs.
# - "Equal training loss" means the running loss, with dropout. The losses in evaluation mode have to agree
#   within a tenth, and the table shows them.
# - A rank correlation over a few batch sizes has few possible values; fewer than six seeds decide none.
# - The positive controls (sharpness at the small batch's extreme rates, its accuracy and loss along
#   training) exist only for the networks whose rate and length of training are varied.
# - Shares of the paper's updates count a hundred epochs of its batch sizes, as in its figures 4 and 5. Where
#   its tables' runs ended is not stated.
# - The validation set of the spoken digits shares recordings with the training set. A rate tuned on it may
#   reward memorization.
# - The number of epochs, the dropout of the narrowed C2, and the losses at which runs are compared were set
#   after a look at training losses and accuracies of a seed that is not used here.
# - The quick profile's networks, rates and epochs were set after a look at training curves of other seeds.
#   Its networks and images are so small that its verdicts hold only for a toy problem.

# %% tags=["nbval-ignore-output"]
provenance.table(results)
