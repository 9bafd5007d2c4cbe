# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does batch size do to training, and does the learning rate undo it?
#
# Chang and Pathak trained one small network on photographs of cats and dogs with four batch sizes and plain
# SGD. They report that larger batches reach higher losses, need more epochs, stay nearer to their initial
# weights and lie in sharper minima. A learning rate scaled with the batch size undoes most of this. This
# report repeats each figure over several seeds. It selects weights and rates on validation data and reports
# an untouched test set. It adds three comparisons: equal updates, equal training loss, and the whole grid of
# batch sizes and rates. A verdict on a claim has three parts: the direction of the effect, its size beside the
# paper's, and the scale of the runs. The page on verdicts in docs/ explains the rules.

# %% tags=["parameters"]
profile: str = "quick"  # name of this set of parameters
store = None  # str: folder of the run store; None: $BSG_STORE, else runs/
figures = None  # str: folder for SVG and CSV of every figure; None: keep none
compute: bool = True  # train what is missing; False: report what is there
workers = None  # int: processes; None: one per core, 0: this one
scheduler = None  # str: address of a Dask cluster; None: this machine
dataset: str = "even_or_odd"  # or cats_vs_dogs, any other two classes, a folder of images by class
image_size = None  # int: side in pixels that images are scaled to; None: as they are
train_size = 480  # int: training examples; None: all
validation_fraction: float = 0.1  # of what is not test, for stopping and for choosing rates
network_options: dict = {"width": 0.5, "blocks": 1}  # factor of layer sizes; blocks of the five
dtype: str = "float64"  # or float32, bfloat16
batch_sizes: list = [32, 64, 128]
lr: float = 0.08  # at the smallest batch size, and at all of them where the rate is fixed
lrs: list = [0.08, 0.16, 0.32]  # of the grid; holds the linearly scaled rates
seeds: list = [15, 16, 17, 18, 19]  # each draws weights and order anew
more_seeds: list = []  # of the fixed and the scaled rate alone
epochs: int = 400  # at most
patience: int = 15  # epochs without a lower validation loss, after which training stops
equal_loss: float = 0.3  # training loss at which the runs of one comparison stop
epsilon: float = 0.001  # half-width of the sharpness box, relative to |weight| + 1
max_iter: int = 10  # iterations of L-BFGS-B
sharpness_examples: int = 128  # training examples the sharpness is measured on
line_examples: int = 128  # training and test examples on the line between minimizers
line_points: int = 25  # of alpha from -1 to 2
surface_examples: int = 128  # training examples of the loss surfaces
surface_points: int = 13  # in each direction, odd
explorer_points: int = 13  # the same for the surfaces of all cells of the grid
agreement_examples: int = 256  # training examples whose gradients are compared
timing_samples: int = 512  # training examples per timed stretch
timing_repeats: int = 3  # interleaved; the claims need five
processes: list = [1, 2]  # over which a batch is split

# %% [markdown]
# ## Scope relative to the paper
#
# The table lists what the paper does, what this report does, and why they differ. Sizes that the paper does
# not state come from the authors' code.

# %%
import pandas as pd
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn.functional import cross_entropy

from bsglib.figures import contours, drawings, explorer, plots, show, style, surface3d
from bsglib.landscape import filter_normalized_direction, loss_surface
from bsglib.pages import provenance
from bsglib.runs.params import check
from bsglib.sharpness import keskar_sharpness
from bsglib.studies import chang, notes
from bsglib.studies.chang import as_run, derived, protocol, tables
from bsglib.studies.tables import arms, joined, readings, regression, worked_out

parameters = check(globals(), chang.ChangParameters)
style.use_style()
show.keep_in(figures)
print(provenance.setting(parameters.profile))
show.table(tables.scope(parameters), "scope")

# %% [markdown]
# **Sharpness** (figures 19 and 20 of the paper, after Keskar et al. 2017) is the largest relative increase of
# the loss $f$ in a box around the weights $x$, in per cent:
#
# $$\phi_{x,f}(\epsilon) = 100 \, \frac{\max_{|y_i| \le \epsilon (|x_i| + 1)} f(x + y) - f(x)}{1 + f(x)}$$
#
# ### A known truth first
#
# A linear loss has its maximum at a corner of the box, in closed form. Within the box, a network's loss is
# nearly linear.

# %% tags=["check"]
slope, line = torch.linspace(-1e-2, 1e-2, 8).double(), torch.nn.Linear(8, 1, bias=False).double()
torch.nn.init.constant_(line.weight, 0.5)
tilted = lambda w, y: 8 * (slope * w[:, 0]).sum() + 8 * (slope.abs().sum())  # noqa: E731
x, start = torch.eye(8).double(), slope.abs().sum().item()
measured = keskar_sharpness(line, x, torch.zeros(8), epsilon=epsilon, loss=tilted).value
expected = 100 * slope.abs().sum().item() * epsilon * 1.5 / (1 + start)
assert abs(measured / expected - 1) < 1e-9
print(f"measured {measured:.6f}, expected {expected:.6f}, ratio {measured / expected:.6f}")

# %% [markdown]
# ### The method in the open
#
# The paper shows the loss along random directions around a minimizer. This cell trains a tiny network to a
# minimizer.

# %%
torch.manual_seed(0)
x = torch.randn(64, 4).double()
y = (x[:, 0] * x[:, 1] > 0).long()
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
sgd = torch.optim.SGD(net.parameters(), lr=0.5)
for _ in range(300):
    sgd.zero_grad()
    cross_entropy(net(x), y).backward()
    sgd.step()

# %% [markdown]
# A random direction $d$ is long relative to small weights and short relative to large ones. So each filter of
# $d$ gets the norm of the network's filter $\theta_i$. The loss is evaluated along this direction:
#
# $$d_i \leftarrow \frac{d_i}{\|d_i\|} \, \|\theta_i\|, \qquad f(a) = \mathrm{loss}(\theta + a \, d)$$

# %%
d = filter_normalized_direction(net, seed=0)
curve = loss_surface(net, x, y, directions=[d], points=5)
assert torch.allclose(d["0.weight"].norm(dim=1), net[0].weight.norm(dim=1))
moved = {name: w + curve.a[-1] * d[name] for name, w in net.named_parameters()}
by_hand = cross_entropy(torch.func.functional_call(net, moved, x), y).item()
assert abs(curve.loss[-1] / by_hand - 1) < 1e-12
print(f"at the minimizer {curve.loss[2]:.4f}, one length away {curve.loss[-1]:.4f}")
print(f"by hand {by_hand:.4f}, ratio {curve.loss[-1] / by_hand:.6f}")

# %% [markdown]
# ## The runs
#
# Within a seed, all batch sizes share their initial weights. *Fixed lr* uses the paper's rate at every batch
# size, *scaled lr* follows the linear rule, and *other lrs* complete the grid. These arms keep the weights of
# the lowest validation loss. *Equal loss* stops at one training loss and keeps its final weights.

# %%
results = chang.study.run(parameters)
results

# %%
show.table(arms(results), "arms")

# %% [markdown]
# ### One verdict worked out
#
# The paper states that the largest batch has a higher lowest validation loss than the smallest. Each seed
# gives one ratio of the two. The verdict depends on the intervals of their mean: where they lie relative to
# one, to the margin of what counts as no effect, and to the paper's ratio.

# %%
show.table(worked_out(results, "chang-best-validation"), "worked-out")

# %% [markdown]
# ## Figure 3: sample images
#
# > Images of cats and dogs, all scaled to one size. A fifth of them is held out for validation.
# >
# > Chang & Pathak, figure 3

# %%
data = tables.data(parameters)
if data is None:
    fig, axes = style.panels(1, 1, height=1.0)
    style.nothing_yet(axes[0, 0], "the images are not available")
else:
    fig = drawings.draw_examples(data.train.x, data.train.y, data.classes)
show.figure(
    fig,
    "samples",
    tables.samples_note(data, parameters),
    rows=tables.class_counts(data),
    alt="Sample images of each class",
)

# %% [markdown]
# The network's input is these pixels divided by their largest value, without augmentation or standardization.

# %% [markdown]
# ## Figure 4: the network
#
# > Blocks of convolution, ReLU and pooling, two dense layers, and one unit with a sigmoid.
# >
# > Chang & Pathak, figure 4; the sizes stand in their code

# %%
network = tables.network(results)
shape = tables.input_shape(results)
count = sum(w.numel() for w in network.parameters())
fig = drawings.draw_network(network, shape)
show.figure(
    fig,
    "network",
    (
        f"**The network, drawn from itself: chang {network_options}, {count:,} parameters.** Compare "
        "figure 4 of the paper."
    ),
    rows=pd.DataFrame(drawings.network_layers(network, shape)),
    alt="The network's layers in order, with the shape of their output and their parameters",
)

# %% [markdown]
# The drawing is computed from one forward pass of the network. Its scores are zero and $z$. Their
# cross-entropy equals the binary cross-entropy of the sigmoid of $z$, which is the paper's loss.

# %% [markdown]
# ## Figures 5 and 6: losses by batch size
#
# > The larger the batch, the slower the training loss falls and the higher the lowest validation loss: .344
# > at 32 and .395 at 256.
# >
# > Chang & Pathak, figures 5 and 6

# %%
rows, history = tables.cells(results, protocol.FIXED)
theirs = tables.logged(parameters, 0.01)
fig = plots.loss_panels({"fixed rate": history}, columns=tables.LOSSES)
for ax, column in zip(fig.axes, tables.LOSSES, strict=True):
    points = theirs.dropna(subset=column).set_index("epoch")[column]
    style.mark_paper_curve(ax, points.to_dict(), f"paper, {min(batch_sizes)}", below=True)
show.figure(
    fig,
    "losses",
    "Training and validation loss against epochs at one learning rate for all batch sizes",
    rows,
    rows=history,
    drawn=tables.LOSSES,
    detail="Running training loss. Numbers at the line ends: batch size.",
    paper=theirs,
    marks="curves",
    compare="figure 5 of the paper",
)
results.verdicts(figure="losses")

# %%
theirs = tables.stated(parameters, 6)
fig, axes = style.panels(1, 3, height=2.6, sharey=True)
for ax, (column, part) in zip(axes[0], tables.KEPT.items(), strict=True):
    plots.plot_against_batch_size(
        {"": rows}, ax, column=column, label="loss (nats)", legend=False,
        paper=theirs if column in theirs else None,
    )  # fmt: skip
    style.title(ax, part)
    ax.label_outer()
show.figure(
    fig,
    "best-losses",
    "Losses at the lowest validation loss against batch size",
    rows,
    detail="The table adds the lowest running training loss, which the paper plots.",
    paper=theirs,
    compare="figure 6 of the paper",
)
show.table(tables.best_losses(results, protocol.FIXED), "best-losses-table")

# %%
results.verdicts(figure="best-losses")

# %% [markdown]
# The paper assumes that large batches train as well as small ones and generalize worse. Yet its own large
# batches also train worse. So the training loss, the validation loss and their difference have separate
# verdicts. Only the difference is a generalization gap. Two notes add the differences of test loss and of
# training accuracy.

# %% [markdown]
# ### The same after equal updates
#
# > The lowest losses are reached after 158 epochs at 32 and 958 at 256, which are about 92,000 and 70,000 updates.
# >
# > Chang & Pathak, figure 7; the updates follow from their number of images
#
# The paper compares the lowest losses of whole runs. Here the runs of one seed are compared after equal
# updates, where the run with the fewest updates ends.

# %%
show.table(tables.equal_updates(results), "equal-updates")
results.verdicts(figure="equal-updates")

# %% [markdown]
# After equal updates the largest batch has seen many times the examples of the smallest. Its loss was also
# evaluated many times more often. Too few updates do not explain a gap that remains.

# %% [markdown]
# ## Figure 7: time
#
# > An epoch takes less time with a larger batch (12.4 s at 32, 7.7 s at 256), but more of them are needed
# > (158 and 958), so that 256 takes almost four times as long overall.
# >
# > Chang & Pathak, figure 7

# %% tags=["nbval-ignore-output"]
fig, axes = style.panels(1, 3, height=2.6)
timed, theirs = {"seconds": results.timings_of(processes=1)}, tables.stated_times(parameters)
for ax, (column, (title, label)) in zip(axes[0], tables.TIMES.items(), strict=True):
    shown = {"": timed.get(column, rows)}
    plots.plot_against_batch_size(
        shown, ax, column=column, label=label, legend=False, average="median", log=True,
        paper=theirs,
    )  # fmt: skip
    style.title(ax, title)
show.figure(
    fig,
    "times",
    "Seconds per epoch, epochs to the lowest validation loss, and their product",
    rows,
    detail="Small marks in panel a: repeats. " + notes.timing(parameters, results.timings),
    marks="medians",
    paper=theirs,
    compare="figure 7 of the paper",
)
show.table(tables.times(results, protocol.FIXED), "times-table")

# %%
results.verdicts(figure="times")

# %% [markdown]
# On one core a larger batch saves only the fixed cost of starting each operation. A batch computed in chunks
# (see the scope table) saves only the cost of the optimizer's step. The total time is the number of epochs
# times the median seconds per epoch; it excludes evaluation and was not measured as a whole. The paper's own
# totals do not exactly equal this product.

# %% [markdown]
# ## Figure 8: the batch split over several devices
#
# > Over four devices an epoch at 256 takes 3.97 s, at small batches slightly longer than on one; overall
# > 256 still takes longer (about 3,700 s) than 32 on one device (1,915 s).
# >
# > Chang & Pathak, figure 8

# %% tags=["nbval-ignore-output"]
fig, axes = style.panels(1, 1, height=2.8)
counts = {f"{n} process{'es' * (n > 1)}": results.timings_of(processes=n) for n in processes}
theirs = tables.stated(parameters, 8)
plots.plot_against_batch_size(
    counts, axes[0, 0], column="seconds", label="seconds per epoch", average="median", paper=theirs
)
show.figure(
    fig,
    "parallel",
    (
        f"**Seconds per epoch, the batch split over processes.** "
        f"{tables.parallel_note(results)} Small marks: repeats; large: their median. Compare figure 8 of "
        "the paper."
    ),
    rows=results.timings,
    paper=theirs,
    alt="Seconds per epoch against batch size, one line per number of processes",
)

# %%
results.verdicts(figure="parallel")

# %% [markdown]
# Each process computes the gradient of its share of every batch. The processes add up their gradients before
# the update (DDP). The losses equal those of one process up to rounding, as a test checks. Processes that
# share a core take turns on it. They show the cost of communication, not the gain of another device.

# %% [markdown]
# ## Figure 9: flat and sharp minima
#
# > Large batches end in sharp minima, whose loss changes more from the training to the test set.
# >
# > Chang & Pathak, figure 9, after Keskar et al. 2017

# %%
wells = pd.DataFrame({"minimum": ["flat", "sharp"], "width": [1.0, 0.25]})
fig = drawings.draw_minima(widths=tuple(wells["width"]))
show.figure(
    fig,
    "minima",
    (
        "**A flat and a sharp minimum, and the same loss shifted a little.** A sketch, computed "
        "from a formula and not from a network. Compare figure 9 of the paper."
    ),
    rows=wells,
    alt="A loss with a flat and a sharp minimum, shifted: the loss grows more at the sharp minimum",
)

# %% [markdown]
# The drawing assumes that the test loss is the shifted training loss. Below, figure 18 tests this assumption
# on the line between two minimizers.

# %% [markdown]
# ## Figures 10 and 11: distance from the initial weights
#
# > The larger the batch, the nearer its minimizer generally lies to the initial weights, in every layer. The
# > exception: 128 lies farther than 64.
# >
# > Chang & Pathak, hypothesis 1, figures 10 and 11

# %%
fig, axes = style.panels(1, 2, height=2.8)
plots.plot_against_batch_size(
    {"": rows}, axes[0, 0], column="distance", label="distance, whole network", legend=False
)
plots.plot_curves(history, axes[0, 1], column="distance", label="distance", log=False)
style.title(axes[0, 0], "at the lowest loss")
style.title(axes[0, 1], "during training")
show.figure(
    fig,
    "distance",
    "Euclidean distance from the initial weights, at the lowest loss and during training",
    rows,
    detail="Panel b: faint lines: seeds; full lines: means.",
    compare="figure 10 of the paper",
)
results.verdicts(figure="distance")

# %%
layer_rows = tables.layer_rows(results)
fig, axes = style.panels(1, 1, height=2.9)
plots.plot_by_layer(layer_rows, axes[0, 0], column="distance", label="distance")
show.figure(
    fig,
    "layers",
    "Distance from the initial weights by layer, smallest and largest batch",
    rows[rows["batch_size"].isin(layer_rows["batch_size"])],
    rows=layer_rows,
    compare="figure 11 of the paper",
)

# %%
results.verdicts(figure="layers")

# %% [markdown]
# The squared distances of the layers add up to the squared distance of the whole network. A run with fewer
# updates stays nearer for that reason alone. Panel b shows whether the curves differ at equal epochs or only
# end earlier.

# %% [markdown]
# ## Figure 12: distance per epoch
#
# > An epoch covers .15 to .4 at 32 and .02 to .04 at 256, and the ratio of the two grows.
# >
# > Chang & Pathak, figure 12

# %%
ratio = tables.epoch_ratio(results)
fig, axes = style.panels(1, 2, height=2.8)
plots.plot_curves(history, axes[0, 0], column="epoch_distance", label="distance per epoch")
theirs = tables.stated(parameters, 12)
for batch_size, ends in theirs.groupby("batch_size")["epoch_distance"]:
    style.mark_paper(axes[0, 0], ends.min(), "")
    style.mark_paper(axes[0, 0], ends.max(), f"paper, {batch_size}", below=True, side="left")
plots.plot_ratio(ratio, axes[0, 1], label=f"B = {min(batch_sizes)} / B = {max(batch_sizes)}")
style.title(axes[0, 0], "distance per epoch")
style.title(axes[0, 1], "their ratio")
show.figure(
    fig,
    "epoch-distance",
    "Distance between the weights before and after an epoch, and its ratio between batch sizes",
    rows,
    rows=history,
    drawn=["epoch_distance"],
    paper=theirs,
    detail="Panel b: smallest over largest batch, one line per seed and the mean.",
    marks="curves",
    compare="figure 12 of the paper",
)

# %%
results.verdicts(figure="epoch-distance")

# %% [markdown]
# The distance per epoch is the distance between the first and the last weights of an epoch, not the path
# length. Updates that cancel do not count. The claim compares epochs that both batch sizes reached. In these
# epochs the largest batch may still be on its first plateau, near the loss of guessing; the smallest batch
# leaves it early. The ratio then grows for this reason. The verdict also gives the ratio over each run's own
# epochs.

# %% [markdown]
# ## Figure 13: the size of each update
#
# > Each update is smaller when the batch is larger: median norm 3.3e-3 at 32, 1.5e-3 at 256.
# >
# > Chang & Pathak, figure 13

# %%
quantiles = derived.update_norms(results)
fig, axes = style.panels(1, 1, height=2.9)
theirs = tables.stated(parameters, 13)
medians = theirs.set_index("batch_size")["norm"].to_dict()
plots.plot_distribution(quantiles, axes[0, 0], label="norm of an update", paper=medians)
show.figure(
    fig,
    "update-norms",
    "Distribution of the norms of all updates by batch size",
    rows,
    rows=quantiles,
    detail="Medians are marked.",
    paper=theirs,
    marks="lines",
    compare="figure 13 of the paper",
)
show.table(tables.norm_table(results), "norm-table")

# %%
results.verdicts(figure="update-norms")

# %% [markdown]
# Gradients shrink late in a run, so the median also depends on the length of the run. The next section fixes
# the weights.

# %% [markdown]
# ## Figures 14 to 16: why updates shrink
#
# > Two gradients $a$ and $b$: one at a time, the mean step is $(|a| + |b|) / 2$. Together, it is $|a + b| /
# > 2$, which is never longer.
# >
# > Chang & Pathak, figures 14 to 16

# %%
vectors = pd.DataFrame({"a": [2.0, 0.4], "b": [0.5, 1.6]})
fig = drawings.draw_gradients(vectors["a"], vectors["b"])
show.figure(
    fig,
    "gradients",
    (
        "**Two gradients, one at a time and together.** Drawn from two chosen vectors. Compare "
        "figures 14 and 15 of the paper."
    ),
    rows=vectors,
    alt="Two gradient vectors, their sum and their mean",
)

# %%
agree = derived.agreement(results)
fig, axes = style.panels(1, 1, height=2.8)
plots.plot_agreement(agree, axes[0, 0])
show.figure(
    fig,
    "agreement",
    "Norm of the mean gradient against batch size, on trained networks of the smallest batch",
    rows[rows["batch_size"] == min(batch_sizes)],
    rows=agree,
    detail="Bars: tenth to ninetieth percentile of the batches drawn. "
    + tables.agreement_note(agree),
    marks="bands",
    compare="figure 16 of the paper, measured",
)

# %%
results.verdicts(figure="agreement")

# %% [markdown]
# Here batches of all sizes are drawn at the same weights, so only cancellation shrinks the mean gradient. A
# mean over more examples is never longer; this is a theorem, not a claim. The line shows the prediction from
# the mean and covariance of single gradients. It levels off where the noise of a batch is smaller than the
# gradient of all data.

# %% [markdown]
# ## Figures 17 and 18: the line between two minimizers
#
# > Training and validation loss at $\alpha x_{256} + (1 - \alpha) x_{32}$: the large batch's minimizer is
# > much sharper.
# >
# > Chang & Pathak, hypothesis 2, figures 17 and 18

# %%
points = tables.line(results)
fig = plots.line_panels({f"B = {min(batch_sizes)} to {max(batch_sizes)}": points})
show.figure(
    fig,
    "line",
    "Loss and accuracy on the line between the smallest and the largest batch's minimizers",
    rows[rows["batch_size"] == max(batch_sizes)],
    rows=points,
    detail=f"SB: B = {min(batch_sizes)}, LB: B = {max(batch_sizes)}; {line_examples:,} training "
    "examples and as many of the test set instead of the validation set, which selected the weights.",
    marks="bands",
    compare="figure 18 of the paper",
)

# %%
results.verdicts(figure="line")

# %% [markdown]
# The two minimizers share one line but not one scale of weights. The minimizer with the smaller weights looks
# sharper on it. The surfaces below remove this difference.

# %% [markdown]
# ## Figures 19 to 21: sharpness
#
# > The largest loss in a box of half-width $10^{-3}$: the larger the batch, the sharper.
# >
# > Chang & Pathak, figures 19 to 21

# %%
fig, axes = style.panels(1, 1, height=2.8)
plots.plot_against_batch_size(
    {"": rows}, axes[0, 0], column="keskar_sharpness", label=tables.PHI, log=True, legend=False
)
show.figure(
    fig,
    "sharpness",
    "Sharpness against batch size at one learning rate",
    rows,
    detail=notes.sharpness(parameters, rows),
    compare="figure 21 of the paper",
)
show.table(tables.sharpness(results), "sharpness-table")

# %%
results.verdicts(figure="sharpness")

# %% [markdown]
# The paper defines sharpness as the largest loss, but plots Keskar's ratio. The table shows the training loss
# and the largest loss beside it. Where another registered measure speaks against this one (a box relative to
# the weights, the largest eigenvalue of the Hessian), the verdict is "depends on the measure".
#
# Sharpness depends on the training loss, which differs between batch sizes. The next table regresses the
# logarithm of sharpness on those of batch size, rate and training loss, over all runs. An exponent of one means
# that sharpness is proportional. No claim uses these exponents.

# %%
of_rates = results.of(rate=list(protocol.RATES.values()))
show.table(regression(of_rates), "regression")

# %% [markdown]
# ### The same at an equal training loss
#
# This comparison is ours. All batch sizes stop at the same training loss. Does the larger batch still have
# the higher validation loss and the sharper minimizer?

# %%
equal = results.of(protocol.LOSS)
fig, axes = style.panels(1, 3, height=2.6)
for ax, (column, label) in zip(axes[0], tables.EQUAL.items(), strict=True):
    plots.plot_against_batch_size({"": equal}, ax, column=column, label=label, legend=False)
    style.title(ax, "at equal loss")
show.figure(
    fig,
    "equal-loss",
    "Losses and sharpness after the epoch whose running training loss first fell to "
    f"{equal_loss:g} nats",
    equal,
)

# %%
results.verdicts(figure="equal-loss")

# %% [markdown]
# Runs stop by the running loss of an epoch, which lags behind for small batches. Panel a shows how much lower
# the loss is at the end of that epoch. So the claim compares the difference of the two losses. Where the
# training losses of a seed differ by more than a tenth, the claims are not testable.

# %% [markdown]
# ## Figure 22: loss surfaces
#
# > Along two random, filter-normalized directions the loss varies more around the large batch's minimizer.
# >
# > Chang & Pathak, figure 22, after Li et al. 2018

# %%
planes = tables.planes(results)
fig = contours.contour_panels(planes)
show.figure(
    fig,
    "surfaces",
    "Training loss around the minimizers of the smallest and the largest batch",
    tables.ends(rows, parameters).query("seed == @seeds[0]"),
    rows=contours.surface_rows(tables.known(planes), ["panel"]),
    detail=f"Filter-normalized directions, biases unchanged; {surface_points} x {surface_points} "
    f"points, {surface_examples:,} training examples, first seed; cross: the minimizer.",
    compare="figure 22 of the paper",
)

# %%
first = tables.first_pair(planes)
if first:
    surface3d.show(
        surface3d.surface_figure(first),
        "surfaces-3d",
        rows=contours.surface_rows(first, ["panel"]),
        caption="**The first pair in three dimensions.** Mouse or arrow keys rotate both surfaces.",
        alt=surface3d.surface_text(first),
    )

# %%
lines = tables.directions(results)
fig, axes = style.panels(1, 1, height=2.9)
plots.plot_line_band(lines, axes[0, 0], column="loss", label="training loss (nats)", log=True)
show.figure(
    fig,
    "directions",
    "Training loss along single filter-normalized directions",
    tables.ends(rows, parameters),
    rows=lines,
    detail="Several directions of each run: faint lines, their mean and their range.",
    marks="none",
    compare="figure 22 of the paper, with a spread",
)

# %%
results.verdicts(figure="surfaces")

# %% [markdown]
# Each filter of a direction has the norm of the network's filter, which removes the scale of the weights. Two
# pairs of directions are a small sample. The bands over several single directions show how much the direction
# matters.

# %% [markdown]
# ### Training trajectory
#
# The figure shows the weights during training, in the plane of their two leading principal directions. The
# paper does not show it; the source of its surfaces does (Li et al. 2018, on trajectories).

# %%
ways = results.points_of(measure="trajectory", seed=seeds[0])
fig, axes = style.panels(1, 2, height=2.9)
for ax, (batch_size, way) in zip(axes[0], ways.groupby("batch_size"), strict=False):
    labels = tables.shares(way)
    plots.plot_path(way, ax, x="a", y="b", order="epoch", labels=labels)
    style.title(ax, f"B = {batch_size}")
show.figure(
    fig,
    "trajectory",
    "Weights at log-spaced epochs in the plane of their two leading principal directions",
    tables.ends(rows, parameters).query("seed == @seeds[0]"),
    rows=ways,
    detail="Explained variance on the axes; the trajectory ends at the minimizer, the origin, "
    "marked by the batch size.",
)

# %% [markdown]
# Two principal directions explain most of any smooth trajectory, even of a random walk. The shares on the
# axes are not evidence of a simple landscape.

# %% [markdown]
# ## Figures 23 and 24: a scaled learning rate
#
# > With the rate scaled linearly the lowest validation loss at 256 is .352, at 32 .345 (.344 in figure 6, .343 in
# > the conclusion): most of the gap is closed.
# >
# > Chang & Pathak, figures 23 and 24

# %%
rows, history = tables.cells(results, protocol.SCALED)
fig = plots.loss_panels({"scaled rate": history}, columns=tables.LOSSES)
show.figure(
    fig,
    "scaled-curves",
    "Training and validation loss against epochs, learning rate scaled with the batch size",
    rows,
    rows=history,
    drawn=tables.LOSSES,
    marks="curves",
    compare="figure 23 of the paper",
)

# %%
both = tables.compared(results)
all_rows = joined(both.values())
theirs = tables.stated(parameters, 24)
fig, axes = style.panels(1, 3, height=2.6, sharey=True)
for ax, (column, part) in zip(axes[0], tables.KEPT.items(), strict=True):
    plots.plot_against_batch_size(
        both, ax, column=column, label="loss (nats)", legend=ax is axes[0, 0],
        paper=theirs if column in theirs else None,
    )  # fmt: skip
    style.title(ax, part)
    ax.label_outer()
show.figure(
    fig,
    "scaled-losses",
    "Losses at the lowest validation loss against batch size, fixed and scaled rate",
    all_rows,
    paper=theirs,
    compare="figure 24 of the paper",
)
show.table(tables.best_losses(results, protocol.SCALED), "scaled-losses-table")

# %%
results.verdicts(figure="scaled-losses")

# %% [markdown]
# The paper gives three different values for the lowest loss of the smallest batch. The intervals over seeds
# show how much such differences mean.

# %% [markdown]
# ## Figure 25: time with scaled rates
#
# > The number of epochs is about the same at every batch size, so 256 becomes the faster: 2,197 s against
# > 3,156 s at 32 (1,915 s in figure 7).
# >
# > Chang & Pathak, figure 25

# %% tags=["nbval-ignore-output"]
theirs = tables.stated(parameters, 25)
fig, axes = style.panels(1, 2, height=2.6)
for ax, column in zip(axes[0], ("kept_epoch", "total_seconds"), strict=True):
    title, label = tables.TIMES[column]
    plots.plot_against_batch_size(
        both, ax, column=column, label=label, log=True, paper=theirs if column in theirs else None
    )
    style.title(ax, title)
show.figure(
    fig,
    "scaled-times",
    "Epochs and seconds to the lowest validation loss against batch size",
    all_rows,
    detail=notes.timing(parameters, results.timings),
    paper=theirs,
    compare="figure 25 of the paper",
)
show.table(tables.times(results, protocol.SCALED), "scaled-times-table")

# %%
results.verdicts(figure="scaled-times")

# %% [markdown]
# The paper's total for the smallest batch differs from the total in its figure on times at a fixed rate. So
# ratios are compared.

# %% [markdown]
# ## Figure 26: sharpness with scaled rates
#
# > Scaled rates make the larger batches' minimizers flatter, but they stay sharper (4 to 7) than that of 32
# > (1.14).
# >
# > Chang & Pathak, figure 26

# %%
fig, axes = style.panels(1, 1, height=2.8)
theirs = tables.stated(parameters, 26)
plots.plot_against_batch_size(
    both, axes[0, 0], column="keskar_sharpness", label=tables.PHI, log=True, paper=theirs
)
show.figure(
    fig,
    "scaled-sharpness",
    "Sharpness against batch size, fixed and scaled rate",
    all_rows,
    detail=f"{notes.sharpness(parameters, all_rows)} Two lines of the paper are the ends of its range.",
    paper=theirs,
    compare="figure 26 of the paper",
)

# %%
results.verdicts(figure="scaled-sharpness")

# %% [markdown]
# The paper does not explain why they stay sharper. Sharpness depends on the loss at which it is measured.
# Compare the runs at an equal training loss above.

# %% [markdown]
# ## Figure 27: distance with scaled rates
#
# > Scaling closes most of the gap in the distance from the initial weights; at 128 it shortens the distance.
# >
# > Chang & Pathak, figure 27

# %%
fig, axes = style.panels(1, 1, height=2.8)
plots.plot_against_batch_size(
    both, axes[0, 0], column="distance", label="distance from the initial weights"
)
show.figure(
    fig,
    "scaled-distance",
    "Distance from the initial weights against batch size, fixed and scaled rate",
    all_rows,
    compare="figure 27 of the paper",
)

# %%
results.verdicts(figure="scaled-distance")

# %% [markdown]
# In the paper the exception rests on one run. Several seeds show whether it is systematic.

# %% [markdown]
# ## Figure 28: a rate too high for the smallest batch
#
# > At a learning rate of .08 the batch of 64 beats that of 32.
# >
# > Chang & Pathak, figure 28

# %%
cells = derived.rates(results)
high = cells[cells["base_lr"] == parameters.scaled_lr(max(batch_sizes))]
fig, axes = style.panels(1, 1, height=2.8)
plots.plot_against_batch_size(
    {"": high}, axes[0, 0], column="validation_loss", label="validation loss (nats)", legend=False
)
show.figure(
    fig,
    "large-lr",
    "Lowest validation loss against batch size at the largest batch's scaled rate",
    high,
    detail=tables.diverged_note(high),
    compare="figure 28 of the paper",
)

# %%
results.verdicts(figure="large-lr")

# %% [markdown]
# The paper suggests a reason: where a large batch wins at an equal rate, the rate is too high for the small
# batch. The next figure tests this and shows the best rate of each batch size.

# %% [markdown]
# ## Figure 29: the best rate of each batch size
#
# > A rate of .01 is best at 32, and .08 at the other three.
# >
# > Chang & Pathak, figure 29

# %%
fig, axes = style.panels(1, 1, height=3.0)
theirs = tables.stated_best(parameters)
plots.plot_against_lr(
    cells, axes[0, 0], column="validation_loss", label="validation loss (nats)", paper=theirs
)
show.figure(
    fig,
    "rates",
    "Lowest validation loss against learning rate, one line per batch size",
    cells,
    detail="Marks: the best rate among those run.",
    paper=theirs,
    marks="curves",
    compare="figure 29 of the paper",
)
results.verdicts(figure="rates")

# %%
table = tables.heat_map(results)
fig, axes = style.panels(1, 1, height=2.8)
plots.plot_heatmap(table, axes[0, 0], label="validation loss (nats)")
show.figure(
    fig,
    "heat-map",
    "The whole grid: lowest validation loss by learning rate and batch size",
    cells,
    rows=table.reset_index(),
    detail='Means over seeds; marks: the best rate of each batch size among those run. "diverged": '
    "at least one seed diverged.",
    marks="none",
    compare="figure 29 of the paper",
)
show.table(tables.best_rates(results), "best-rates")

# %%
results.verdicts(figure="heat-map")

# %% [markdown]
# The linear rule predicts a best rate that doubles with the batch size. The paper's best rate is the highest
# rate it reports, so this grid has one rate above it. If a best rate is at an end of the grid, a better rate
# may lie beyond: claims about it are not testable, and the grid is not extended after a look. Elsewhere claims
# read the best rate between those of the grid, off a parabola through the best loss and its neighbors. The
# verdict on whether large batches are worse in general uses the test set, at the rates selected on validation
# data.

# %% [markdown]
# ## Every cell of the grid
#
# Choose a batch size and a learning rate. The page shows the loss, the distance from the initial weights, the
# sharpness and the loss surface of that configuration.

# %%
of_cells = tables.explorer_cells(results)
explorer.show(
    of_cells,
    tables.explorer_curves(results),
    tables.explorer_surfaces(results),
    name="explorer",
    caption=tables.explorer_note(parameters, of_cells),
)

# %% [markdown]
# Vary the rate at one batch size, then move along a diagonal of equal rate per example. If the linear rule
# holds, the configurations on a diagonal look alike.

# %% [markdown]
# ## What explains the difference
#
# The authors published their code. It settles what the paper leaves open, and in places it differs from the
# text. So the source has two readings: *as written*, the set-up of the paper, and *as run*, that of its code.
# Claims name the reading that they judge. The table lists where the two differ.

# %%
show.table(as_run.set_ups(parameters), "set-ups")

# %% [markdown]
# The paper gives two totals for the smallest batch at the same rate. The printed log of the run has the epoch
# of the lowest validation loss and the last epoch. If both totals give the paper's seconds per epoch, they
# are the two times of one run: to its lowest loss, and to its end after the patience.

# %% tags=["nbval-ignore-output"]
show.table(as_run.times(results), "reconciled-times")

# %% [markdown]
# One order of the examples for all epochs gives the same batches again and again. The authors' solver for
# sharpness takes one step of line search along a gradient that is too long. It reports the loss where it
# stops, which need not be the largest loss that it found. A dash stands where this profile has no such runs
# or measures.

# %%
show.table(as_run.readings(results), "readings")
show.table(as_run.sharpness(results), "sharpness-by-code")

# %% [markdown]
# The authors draw their surfaces from a coarse grid. The next figure shows our surfaces on our grid and,
# from the same points, on theirs.

# %%
pairs = as_run.sampled(results)
few = [name for i, name in enumerate(pairs) if i % 2]
fig = contours.contour_panels(pairs, coarse=few)
show.figure(
    fig,
    "coarse-surfaces",
    "Training loss around the smallest and the largest batch's minimizers, on our grid and on the authors'",
    tables.ends(derived.fixed(results), parameters).query("seed == @seeds[0]"),
    rows=contours.surface_rows(tables.known(pairs), ["panel"]),
    detail="First plane and first seed of the surfaces above; dots: the points of the authors' grid, "
    "between which the colours are interpolated; cross: the minimizer.",
    compare="figure 22 of the paper",
)

# %%
Markdown(as_run.explained(results))

# %%
results.verdicts(figure="as-run")

# %%
show.table(readings(results), "claims-by-reading")

# %% [markdown]
# A reading explains a difference if our numbers move towards the paper's when we change to it. Where the
# loss changes by a large factor from one point of a grid to the next, the contours between the points are
# interpolation and not measurement.

# %% [markdown]
# ## Conclusion
#
# The table lists every claim: where the paper makes it, the rule, our interval, and the verdict. Intervals
# are over seeds; intervals of times are over interleaved repeats.

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
# - In all but the largest profile, images are smaller and fewer than the paper's. With fewer images a run
#   overfits sooner, which changes its lowest loss and the epochs to it.
# - A run that still improves at its last epoch has no lowest loss. Claims about it are not testable. Distances
#   and sharpness are, at a training accuracy of nine tenths.
# - The lowest of many validation losses is biased low. The bias grows with the noise of the curve and with
#   the number of evaluations, which differs between batch sizes. The test loss is not biased.
# - Seeds below ten share one split. Their intervals cover initial weights and data order, not the choice of
#   held-out images.
# - With the laptop profile's first seeds most claims were undecided. So seeds were added at the fixed and the
#   scaled rate; their number was fixed before they ran. Intervals do not account for this second look.
# - A rank correlation over a few batch sizes has few possible values; fewer than six seeds decide none.
# - The share of a gap that scaling leaves is a ratio of means over seeds, with the error of the delta method.
# - The positive controls (SAM for sharpness, ten epochs for losses, epochs and distances) run in the profile
#   of the verdicts alone, at the smallest batch size.
# - Shares of the paper's updates follow from its epochs at both ends; between them they are interpolated.
# - Best rates come from a grid that doubles. Claims about a rate have a margin of half a doubling.
# - The size of the training set, the limit on epochs and the equal training loss were set after a look at runs of a
#   seed that is not used here.
# - The quick profile's networks, rates and epochs were set after a look at training curves of other seeds.
#   Its networks and images are so small that its verdicts hold only for a toy problem.

# %% tags=["nbval-ignore-output"]
provenance.table(results)
