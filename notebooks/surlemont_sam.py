# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does SAM make large batches generalize?
#
# Surlemont, Javadi Farahzadi and Stähle trained one small network at many batch sizes. They used SGD and
# Adam, a fixed or a scaled learning rate, and training without and with sharpness-aware minimization (SAM).
# They measured loss, accuracy and the sharpness of the minimizers, and report that SAM helps small batches
# only. This report repeats every arm over several seeds. It adds two arms without dropout, because the code
# that the paper cites may have switched dropout off unnoticed. A verdict on a claim has three parts: the
# direction of the effect, its size beside the paper's, and the scale of the runs. The page on verdicts in
# docs/ explains the rules.

# %% tags=["parameters"]
profile: str = "quick"  # name of this set of parameters
store = None  # str: folder of the run store; None: $BSG_STORE, else runs/
figures = None  # str: folder for SVG and CSV of every figure; None: keep none
compute: bool = True  # train what is missing; False: report what is there
workers = None  # int: processes; None: one per core, 0: this one
scheduler = None  # str: address of a Dask cluster; None: this machine
dataset: str = "digits"  # or fashion_mnist, or the path of an .npz or of a folder of images
image_size = None  # int: side in pixels that images of a folder are scaled to; None: as they are
train_size = 576  # int: training examples; None: all
validation_fraction: float = 0.1  # of the training part, set aside for choices
network: str = "surlemont"  # or "package.module:function"
network_options: dict = {"width": 0.375}  # what the network takes
dropout = 0.2  # float: None: the network takes no such option
dtype: str = "float64"  # or float32, bfloat16
batch_sizes: list = [32, 64, 128]  # examples per update
seeds: list = [15, 16, 17, 18, 19]  # each draws weights, order and masks anew
more_seeds: list = []  # of SGD with dropout alone
sgd_lr: float = 0.05  # at the reference batch size
adam_lr: float = 0.006  # at the reference batch size
reference_batch_size: int = 32  # scaled learning rates are proportional to B over this
momentum: float = 0.9  # heavy ball, SGD only
epochs: int = 12  # passes over the training set, at most
patience = 10  # int: stop after so many without a better running accuracy
evaluate: str = "log"  # epochs at which whole sets are evaluated; or every
rho: float = 0.05  # radius of SAM
rho_sweep: list = [0.1]  # other radii, at the largest batch
epsilon: float = 0.01  # half-width of the sharpness box, relative to |weight| + 1
max_iter: int = 10  # iterations of L-BFGS-B
sharpness_examples: int = 128  # training examples the sharpness is measured on
lambda_max_examples: int = 128  # and the largest Hessian eigenvalue
timing_samples: int = 512  # training examples per timed stretch
timing_repeats: int = 2  # interleaved; the claims need five

# %% [markdown]
# ## Scope relative to the paper
#
# The table lists what the paper does, what this report does, and why they differ. *SB* and *LB* are the
# smallest and the largest batch.

# %%
import pandas as pd
import torch
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

from bsglib.figures import plots, show, style
from bsglib.pages import provenance
from bsglib.runs.params import check
from bsglib.sam import SAM
from bsglib.sharpness import keskar_sharpness
from bsglib.stats import PERCENT
from bsglib.studies import notes, source, surlemont
from bsglib.studies.surlemont import authors, claims, confirmatory, protocol, published, tables
from bsglib.studies.tables import arms, means, of_common_seeds, readings, regression, worked_out
from bsglib.verdicts import DEPENDS, NO_EFFECT, OPPOSITE

parameters = check(globals(), surlemont.SurlemontParameters)
style.use_style()
show.keep_in(figures)
print(provenance.setting(parameters.profile))
show.table(tables.scope(parameters), "scope")

# %% [markdown]
# SAM replaces the gradient of the loss $L$ at the weights $w$ by the gradient at the worst point
# within a radius $\rho$ (equations 5 and 6 of the paper):
#
# $$w_{t+1} = w_t - \eta \, \nabla L\!\left(w_t + \rho \, \frac{\nabla L(w_t)}{\|\nabla L(w_t)\|_2}\right)$$
#
# **Sharpness** is Keskar's metric (Keskar et al. 2017, metric 2.1): the largest relative increase of the loss
# $f$ in a box around the weights $x$, in per cent. A few iterations of L-BFGS-B search for the maximum, so
# the result is a lower bound:
#
# $$\phi = 100 \, \frac{\max_{z \in C} f(x + z) - f(x)}{1 + f(x)}, \qquad C = \{z : |z_i| \le \epsilon (|x_i| + 1)\}$$
#
# ### A known truth first
#
# On a convex quadratic the maximum is at a corner of the box and has a closed form.

# %% tags=["check"]
slope, curvature = torch.linspace(1e-4, 1e-2, 8).double(), torch.linspace(0.1, 2, 8).double()
line = torch.nn.Linear(8, 1, bias=False).double()
torch.nn.init.constant_(line.weight, 0.5)
quadratic = lambda w, y: 8 * (slope * w[:, 0] + curvature * w[:, 0] ** 2 / 2).sum()  # noqa: E731
measured = keskar_sharpness(
    line, torch.eye(8).double(), torch.zeros(8), epsilon=epsilon, loss=quadratic
)
b, start = epsilon * 1.5, quadratic(torch.full((8, 1), 0.5).double(), None).item() / 8
growth = ((slope + 0.5 * curvature) * b + curvature * b**2 / 2).sum().item()
expected = 100 * growth / (1 + start)
assert abs(measured.value / expected - 1) < 1e-9
print(
    f"measured {measured.value:.6f}, expected {expected:.6f}, ratio {measured.value / expected:.6f}"
)

# %% [markdown]
# ### The method in the open
#
# This cell makes one update of SAM on a tiny network in two ways: by the equation above, and by the optimizer
# that every run below uses.

# %%
torch.manual_seed(0)
net, x, y = torch.nn.Linear(4, 3).double(), torch.randn(16, 4).double(), torch.arange(16) % 3
loss = lambda w: cross_entropy(functional_call(net, w, (x,)), y)  # noqa: E731
w, lr = {name: p.detach().clone() for name, p in net.named_parameters()}, 0.1
g = grad(loss)(w)
norm = torch.cat([part.flatten() for part in g.values()]).norm()
at_worst = grad(loss)({name: w[name] + rho * g[name] / norm for name in w})
optimizer = SAM(torch.optim.SGD(net.parameters(), lr), rho=rho)
optimizer.step(lambda: (net.zero_grad(), (f := cross_entropy(net(x), y)).backward(), f)[-1])
off = max((p - (w[name] - lr * at_worst[name])).abs().max() for name, p in net.named_parameters())
print(f"the optimizer and the equation agree to 1e-15: {bool(off < 1e-15)}")

# %% [markdown]
# ## The runs
#
# The study has ten arms, two of them without dropout, and a sweep over the radius of SAM at the largest
# batch. Within a seed all runs share their initial weights. Batch sizes are compared at equal epochs, as in
# the paper: the larger the batch, the fewer the updates.

# %%
results = surlemont.study.run(parameters)
show.table(arms(results), "arms")

# %%
results

# %% [markdown]
# Sharpness and generalization gaps are compared where the stopping rule ended the runs, or at a training
# accuracy of nine tenths and more, which does not show that training had converged. The next table counts the runs
# that stopped at the maximum number of epochs.

# %%
stops = results.runs.drop_duplicates("run_id").groupby("arm", sort=False)["stopped"]
stops.value_counts().unstack(fill_value=0).rename_axis(columns="runs by stopping criterion")

# %% [markdown]
# ### One verdict worked out
#
# Each value is the difference of one seed. The rule, declared before the runs, judges their mean and its
# intervals, which contain the error of a finite test set where the runs stored their answers to it.

# %%
worked_out(results, "surlemont-scaling-compensates")

# %% [markdown]
# ## Figure 1: loss with scaled learning rate
#
# > SGD with a learning rate that doubles with the batch, from 0.001 at B = 32 to 0.032 at B = 1024,
# > without SAM (top) and with SAM (bottom). With SAM, B = 1024 ends with a lower validation accuracy.
# > At 32 and 64 the validation accuracy is kept; with large batches it decreases.
# >
# > Surlemont et al., figure 1 and section V

# %%
rows = results.of(protocol.SGD.label, protocol.SGD_SAM.label)
means(rows, "train_loss", "test_loss", "validation_accuracy").round(4)

# %%
scaled = (protocol.SGD, protocol.SGD_SAM)
theirs = source.read("surlemont", "curves", figure=1)
fig = plots.loss_panels(
    {arm.label: results.history_of(arm.label) for arm in scaled},
    paper={arm.label: theirs[theirs["sam"] == arm.sam] for arm in scaled},
)
show.figure(
    fig,
    "figure-1",
    "Training and test loss against epochs, SGD with scaled learning rate, per batch size",
    rows,
    rows=results.history_of(*(arm.label for arm in scaled)),
    drawn=plots.TRAIN_AND_TEST,
    paper=theirs,
    detail="Top: without SAM; bottom: with SAM. Numbers at the line ends: batch size.",
    marks="curves",
    compare="figure 1 of the paper",
)

# %%
results.verdicts(figure="figure-1")

# %% [markdown]
# Check whether the lines of a panel end together. At equal epochs the scaled learning rates of every batch
# size add up to about the same sum. A large batch with a higher final loss may have made too few updates for
# its momentum to settle. More epochs at the same rates would test this.

# %% [markdown]
# ## Figure 2: sharpness with scaled learning rate
#
# > SAM divides the sharpness by nine at B = 32 and by about two at B = 64, does nothing at 128,
# > makes it worse at 256 and 512, and B = 1024 is an outlier with the lowest value. Without SAM
# > there is no difference between batch sizes. (Section V; earlier work, as the abstract reports it, finds
# > that minima of large batches stay sharper.)
# >
# > Surlemont et al., figure 2, section V and abstract
#
# The paper says that its result contradicts earlier work, so both statements are tested.

# %%
means(rows, "keskar_sharpness", "lambda_max").map(lambda value: float(f"{value:.4g}"))

# %%
fig, axes = style.panels(1, 2, height=2.9)
lines = {arm.label: results.of(arm.label) for arm in scaled}
phi, curve = r"sharpness $\phi$ (%)", r"largest Hessian eigenvalue $\lambda_{max}$"
theirs = source.read("surlemont", "runs", optimizer="sgd", rate="scaled")
plots.plot_against_batch_size(
    lines, axes[0, 0], column="keskar_sharpness", label=phi, log=True, paper=theirs
)
plots.plot_against_batch_size(
    lines, axes[0, 1], column="lambda_max", label=curve, log=True, legend=False
)
style.title(axes[0, 0], "Keskar's metric")
style.title(axes[0, 1], "largest curvature")
show.figure(
    fig,
    "figure-2",
    "Sharpness and largest Hessian eigenvalue against batch size, SGD with scaled learning rate",
    rows,
    detail=f"{notes.sharpness(parameters, rows)} Panel b: {lambda_max_examples:,} of them.",
    paper=theirs,
    compare="figure 2 of the paper; panel b is ours",
)

# %%
results.verdicts(figure="figure-2")

# %% [markdown]
# The metric is absolute in the weights. Two networks of different weight norm or of different training loss
# are therefore not compared on equal terms. Compare panel a with the losses of figure 1, and with panel b,
# which is another measure of the same minimizers. Where another registered measure speaks against a claim
# that Keskar's metric bears out, the verdict is "depends on the measure".
#
# The next table regresses the logarithm of the metric on those of batch size, learning rate and training
# loss, over SGD with dropout at all of its rates, without and with SAM. An exponent of one means that
# sharpness is proportional. Where each seed has runs enough, exponents are means over seeds.

# %%
of_sgd = results.of(optimizer="sgd", dropout=True, condition=[protocol.MAIN, confirmatory.RATES])
show.table(regression(of_sgd, by="sam"), "regression")

# %% [markdown]
# ## Figure 3: train error over test error
#
# > The ratio of train error to test error, fixed learning rate (top) and scaled (bottom), without
# > and with SAM. The generalization gap is reduced at B = 32 and 64.
# >
# > Surlemont et al., figure 3 and section V
#
# The paper's text defines the gap as a ratio of accuracies; its figure shows errors. This figure shows both.

# %%
regimes = {
    "fixed learning rate": (protocol.SGD_FIXED, protocol.SGD_FIXED_SAM),
    "scaled learning rate": scaled,
}
rows = results.of(*(arm.label for pair in regimes.values() for arm in pair))
rows = rows.assign(
    error_ratio=claims.error_ratio(rows),
    accuracy_ratio=rows["test_accuracy"] / rows["validation_accuracy"],
)
means(rows, "error_ratio", "accuracy_ratio").round(3)

# %%
of_paper = tables.paper_error_ratios()
fig, axes = style.panels(2, 2, height=5, sharey="col", sharex="col")
for row, (name, pair) in zip(axes, regimes.items(), strict=True):
    lines = {arm.label: rows[rows["arm"] == arm.label] for arm in pair}
    theirs = of_paper[of_paper["rate"] == pair[0].labels["rate"]]
    plots.plot_against_batch_size(
        lines, row[0], column="error_ratio", label="train error / test error", paper=theirs
    )
    plots.plot_against_batch_size(
        lines, row[1], column="accuracy_ratio", label="test acc. / validation acc.", legend=False
    )
    style.title(row[0], f"errors, {name}")
    style.title(row[1], f"accuracies, {name}")
show.figure(
    fig,
    "figure-3",
    "Ratio of train error to test error, and of test accuracy to validation accuracy",
    rows,
    detail="Left: a ratio of one means no generalization gap. Right: two held-out sets.",
    paper=of_paper,
    compare="figure 3 of the paper; the right column is the ratio that its text defines",
)

# %%
results.verdicts(figure="figure-3")

# %% [markdown]
# A ratio near one has two possible causes: good generalization, or training that has not begun to fit. The
# losses of figures 1 and 6 distinguish them. Each claim's note has the differences in test loss and in training
# accuracy: a gap that is one of training accuracy is not a generalization gap.

# %% [markdown]
# ## Is it SAM, or is it dropout?
#
# > The network has two dropout layers with p = 0.5; SAM is taken from a public TensorFlow model.
# >
# > Surlemont et al., section IV.A and reference 6
#
# In its training step the public code calls the inner network without the training flag. Dropout is then off
# with SAM, and on without it. We infer that the authors used this code unchanged. Two more arms, without
# dropout, separate the two effects.

# %%
without = (protocol.NO_DROPOUT, protocol.NO_DROPOUT_SAM)
rows = of_common_seeds(results.of(*(arm.label for arm in (*scaled, *without))), "arm")
means(rows, "keskar_sharpness", "train_loss", "validation_accuracy").map(
    lambda v: float(f"{v:.4g}")
)

# %%
fig, axes = style.panels(1, 2, height=2.9, sharey=True)
for ax, pair in zip(axes[0], (scaled, without), strict=True):
    lines = {arm.label: rows[rows["arm"] == arm.label] for arm in pair}
    plots.plot_against_batch_size(lines, ax, column="keskar_sharpness", label=phi, log=True)
    style.title(ax, "dropout on" if pair is scaled else "dropout off")
show.figure(
    fig,
    "dropout",
    "Sharpness against batch size with dropout on (a) and off (b)",
    rows,
    detail=notes.sharpness(parameters, rows),
    compare="the paper's figure 2, which may compare filled marks of a with open marks of b",
)

# %%
results.verdicts(figure="dropout")

# %% [markdown]
# Compare two effects: from filled marks with dropout to open marks without, and of SAM alone within a panel.
# If the first is as large as the paper's factor and the second is small, the code explains the paper's
# headline. If dropout alone changes the sharpness in the other direction, it does not. The training losses in
# the table differ between the panels. Without dropout the networks fit more closely, and the metric depends
# on the training loss.

# %% [markdown]
# ## What explains the difference
#
# > In the authors' public code the SAM of SGD with scaled rate is adaptive SAM with rho = 2.0, while the other
# > arms have plain SAM with rho = 0.05; dropout is off in both passes of every kind of SAM. Their accuracies
# > are those of the validation set, and their figure 3 shows validation loss over training loss.
# >
# > Surlemont et al., public repository, notebook and model code
#
# Claims on SAM are judged twice: as written, with plain SAM and dropout, and as run. The factorial has both
# kinds of SAM, each with dropout on and off, beside SGD with dropout.

# %%
factorial = tables.factorial(results)
fig, axes = style.panels(1, 2, height=2.9, sharey=True)
for ax, (title, lines) in zip(axes[0], factorial.items(), strict=True):
    plots.plot_against_batch_size(lines, ax, column="keskar_sharpness", label=phi, log=True)
    style.title(ax, title)
rows = pd.concat(runs for lines in factorial.values() for runs in lines.values())
show.figure(
    fig,
    "factorial",
    "Sharpness against batch size of SGD and of SAM, with dropout on and off in SAM",
    rows,
    detail=notes.sharpness(parameters, rows),
    compare="figure 2 of the paper, which shows SGD and adaptive SAM with dropout off",
)

# %%
show.table(tables.factorial_table(results), "factorial-table")

# %%
results.verdicts(figure=("as-run", "factorial"))

# %%
show.table(readings(results), "claims-by-reading")

# %% [markdown]
# Three changes separate their factor from SAM as the text describes it: the kind of SAM with its radius, dropout
# in SAM, and the solver of the metric. Each has a row in the table and a claim of its own.

# %% [markdown]
# ## What makes the factor of nine?
#
# > At B = 32 SAM reduces the sharpness by a factor of nine, at B = 64 by half; at larger batches it does not
# > help.
# >
# > Surlemont et al., section V
#
# The authors' repository holds the weights of the networks behind these numbers. So the solvers can be compared
# on the same networks, over the authors' training images. The authors' solver deviates from the definition: its
# gradient is a sum over batches, and each line search stops after one step. Every solver climbs from the
# weights and may end at a local maximum. One more lower bound of the metric takes other paths: it climbs
# over a part of the images and takes the loss over all of them where it ends. Of several lower bounds the
# largest is the best.
# `bsg examine-authors` repeats this with a clone of the repository.

# %%
show.table(tables.authors_factors(results).set_index(["batch size", "rate"]), "factors")

# %%
fig, axes = style.panels(2, 3, height=5, sharey="row", sharex=True)
for row, (rate, (_, own)) in zip(axes, tables.PAIRS.items(), strict=True):
    for ax, solver in zip(row, (tables.REMEASURED, authors.LARGEST), strict=False):
        lines = tables.authors_lines(rate, solver)
        plots.plot_against_batch_size(lines, ax, column="keskar_sharpness", label=phi, log=True)
        style.title(ax, f"{solver}, {rate}")
    for _, line in tables.authors_lines(rate, tables.PUBLISHED).items():
        style.mark_paper_curve(row[0], line.set_index("batch_size")["keskar_sharpness"].to_dict())
    lines = {arm: results.of(arm) for arm in own}
    style.title(row[2], f"{tables.OWN}, {rate}")
    if all(map(len, lines.values())):
        plots.plot_against_batch_size(lines, row[2], column="keskar_sharpness", label=phi, log=True)
    else:
        style.nothing_yet(row[2], "not in this profile")
    for ax in row[1:]:
        ax.set_ylabel("")
show.figure(
    fig,
    "factors-figure",
    f"**Sharpness against batch size, by networks and by solver.** {tables.authors_note()} Dotted: "
    f"published. {tables.OWN}: {notes.sharpness(parameters, results.of(protocol.SGD.label))}",
    rows=tables.authors_rows(),
    alt="Sharpness against batch size of the authors' networks and of ours, by both solvers",
)

# %% [markdown]
# Compare the columns of the first table from left to right. If a corrected solver keeps the factor, the
# solver's deviations do not make it. If the bound over parts is far above the other values for SAM alone, local
# maxima make it, and not the minimizers. Then compare the rows of one batch size: they differ in the kind of
# SAM and its radius.
#
# The next table has our sharpness of the same networks over fewer images and over all. Near a minimum of the
# loss over all training images the gradient over a subset is mostly sampling noise. An ascent over the subset
# then starts in another direction.

# %%
show.table(tables.authors_by_examples(), "by-examples")

# %% [markdown]
# ## Figures 4 and 5: Adam
#
# > With Adam, SAM improves neither the validation accuracy nor the sharpness, whether the learning
# > rate is fixed or scaled; Adam is worse than SGD, and neither arm is satisfactory.
# >
# > Surlemont et al., figures 4 and 5 and section V
#
# The paper gives Adam the default configuration and two learning-rate scenarios, and does not state which one
# its figures show. This report shows both. The paper does not define "satisfactory", so that half of its
# sentence has no verdict.

# %%
adam = (protocol.ADAM_FIXED, protocol.ADAM_FIXED_SAM, protocol.ADAM, protocol.ADAM_SAM)
rows = results.of(*(arm.label for arm in adam))
means(rows, "test_loss", "validation_accuracy", "keskar_sharpness").map(lambda v: float(f"{v:.4g}"))

# %%
theirs = source.read("surlemont", "curves", figure=4)
fig = plots.loss_panels(
    {arm.label: results.history_of(arm.label) for arm in adam},
    paper={arm.label: theirs[theirs["sam"] == arm.sam] for arm in adam[:2]},
)
show.figure(
    fig,
    "figure-4",
    "Training and test loss against epochs, Adam, per batch size",
    rows,
    rows=results.history_of(*(arm.label for arm in adam)),
    drawn=plots.TRAIN_AND_TEST,
    paper=theirs,
    detail="Numbers at the line ends: batch size.",
    marks="curves",
    compare="figure 4 of the paper",
)

# %%
fig, axes = style.panels(1, 2, height=2.9, sharey=True)
theirs = source.read("surlemont", "runs", optimizer="adam")
learned = theirs["validation_accuracy"] > 0.5
for ax, pair in zip(axes[0], (adam[:2], adam[2:]), strict=True):
    lines = {arm.label: results.of(arm.label) for arm in pair}
    plots.plot_against_batch_size(
        lines, ax, column="keskar_sharpness", label=phi, log=True,
        paper=theirs[learned & (theirs["rate"] == pair[0].labels["rate"])],
    )  # fmt: skip
    style.title(ax, pair[0].label)
show.figure(
    fig,
    "figure-5",
    "Sharpness against batch size, Adam",
    rows,
    detail=f"{notes.sharpness(parameters, rows)} Runs of the paper that learned nothing and are not "
    f"drawn: {(~learned).sum()}.",
    paper=theirs,
    compare="figure 5 of the paper",
)

# %%
results.verdicts(figure=("figure-4", "figure-5"))

# %% [markdown]
# With a linearly scaled rate, Adam can leave the region where the network learns. A sharpness near zero then
# means a flat loss, because the network gives the same output for every input. Interpret figure 5 only where
# the accuracy is far above chance.

# %% [markdown]
# ## Figures 6 and 7: fixed learning rate
#
# > SGD with a learning rate of 0.001 at every batch size, without and with SAM. Only at B = 32 and 64
# > does SAM lower the sharpness while it keeps the validation accuracy.
# >
# > Surlemont et al., figures 6 and 7 and section V
#
# The paper's text states no separate finding on these two figures. Its summary is assumed to hold for them
# too.

# %%
fixed = regimes["fixed learning rate"]
rows = results.of(*(arm.label for arm in fixed))
means(rows, "test_loss", "validation_accuracy", "keskar_sharpness").map(lambda v: float(f"{v:.4g}"))

# %%
theirs = source.read("surlemont", "curves", figure=6)
fig = plots.loss_panels(
    {arm.label: results.history_of(arm.label) for arm in fixed},
    paper={arm.label: theirs[theirs["sam"] == arm.sam] for arm in fixed},
)
show.figure(
    fig,
    "figure-6",
    "Training and test loss against epochs, SGD with fixed learning rate, per batch size",
    rows,
    rows=results.history_of(*(arm.label for arm in fixed)),
    drawn=plots.TRAIN_AND_TEST,
    paper=theirs,
    detail="Numbers at the line ends: batch size.",
    marks="curves",
    compare="figure 6 of the paper",
)

# %%
fig, axes = style.panels(1, 2, height=2.9)
lines = {arm.label: results.of(arm.label) for arm in fixed}
theirs = source.read("surlemont", "runs", optimizer="sgd", rate="fixed")
plots.plot_against_batch_size(
    lines, axes[0, 0], column="keskar_sharpness", label=phi, log=True, paper=theirs
)
plots.plot_against_batch_size(
    lines, axes[0, 1], column="validation_accuracy", label="validation accuracy (%)",
    scale=PERCENT, legend=False, paper=theirs,
)  # fmt: skip
style.title(axes[0, 0], "Keskar's metric")
style.title(axes[0, 1], "accuracy")
show.figure(
    fig,
    "figure-7",
    "Sharpness and validation accuracy against batch size, SGD with fixed learning rate",
    rows,
    detail=notes.sharpness(parameters, rows),
    paper=theirs,
    compare="figure 7 of the paper; the right panel is ours",
)

# %%
results.verdicts(figure=("figure-6", "figure-7"))

# %% [markdown]
# At equal epochs and equal learning rate a large batch has made few and small steps. Its higher loss is no
# evidence on minimizers. Compare the *training* loss before the test loss.

# %% [markdown]
# ## Accuracy of every arm
#
# > The quality of the minimizers is assessed by the validation accuracy.
# >
# > Surlemont et al., section IV.D
#
# The paper prints no table of it. This one is ours, over the seeds that all arms share.

# %%
main = of_common_seeds(results.of(condition=protocol.MAIN), "arm")
accuracy = means(main, "validation_accuracy", "test_accuracy", scale=PERCENT)
show.table(accuracy, "accuracy")

# %% [markdown]
# ## Time per epoch
#
# > Larger batches take quite a bit less time per epoch, and SAM about doubles it at every batch
# > size.
# >
# > Surlemont et al., section V, in words only

# %%
times, theirs = tables.epoch_times(results), tables.paper_times()
lines = {arm.label: times[times["sam"] == arm.sam] for arm in scaled}
ratio = {"SAM over SGD": tables.epoch_time_ratios(results)}

# %% tags=["nbval-ignore-output"]
fig, axes = style.panels(1, 2, height=2.7)
plots.plot_against_batch_size(
    lines, axes[0, 0], column="seconds", label="seconds per epoch", average="median",
    log=True, paper=theirs,
)  # fmt: skip
plots.plot_against_batch_size(
    ratio, axes[0, 1], column="ratio", label="time with SAM / without", legend=False,
    average="median", paper=theirs[theirs["sam"]],
)  # fmt: skip
style.mark_paper(axes[0, 1], published.SAM_TIME, "")
text = [(1, published.SAM_TIME, 0)], {0: "paper, text"}, {0: style.PAPER}
style.label_ends(axes[0, 1], *text)
axes[0, 1].set_ylim(bottom=0)
show.figure(
    fig,
    "runtime",
    (
        "**Time per epoch against batch size, without and with SAM, and their ratio.** "
        f"{notes.timing(parameters, results.timings)} Small marks: repeats; large: their median. "
        "Compare the paragraph on runtime in section V."
    ),
    rows=times,
    paper=theirs,
    alt="Seconds per epoch against batch size, without and with SAM, and their ratio",
)

# %%
results.verdicts(figure="runtime")

# %% [markdown]
# On a processor core, the time per epoch falls with the batch size only while batches share the cost of
# starting each operation. Parallelism adds to this on the paper's hardware. SAM computes two gradients where
# SGD computes one, but loads a batch and updates the weights only once. Moving the weights to the worst point
# and back adds a small cost.

# %% [markdown]
# ## Does a larger radius help the largest batch?
#
# > At B = 1024 the run might sit in a local minimum of the sharpness itself; whether a larger rho
# > changes that is left open.
# >
# > Surlemont et al., section V

# %%
rows = tables.rho_rows(results)
rows.groupby("rho")[["keskar_sharpness", "train_loss", "validation_accuracy"]].mean().round(4)

# %%
fig, axes = style.panels(1, 2, height=2.7)
plots.plot_against_rho(rows, axes[0, 0], column="keskar_sharpness", label=phi, log=True, scale=1)
plots.plot_against_rho(
    rows,
    axes[0, 1],
    column="validation_accuracy",
    label="validation accuracy (%)",
    log=False,
    scale=100,
)
show.figure(
    fig,
    "rho",
    "Sharpness and validation accuracy at the largest batch against the radius of SAM",
    rows,
    detail=notes.sharpness(parameters, rows),
    compare="the open question of section V",
)

# %%
results.verdicts(figure="rho")

# %% [markdown]
# A radius so large that the network no longer trains also lowers the sharpness. Compare both panels.

# %% [markdown]
# ## Conclusion
#
# The table lists every claim in our words: where the paper makes it, the rule, our interval over seeds, and
# the verdict.

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
missed = verdicts[verdicts["verdict"].isin([OPPOSITE, NO_EFFECT, DEPENDS])]
missed[["statement", "line"]].set_index("statement") if len(missed) else "none"

# %% [markdown]
# - The paper does not state SAM's radius, the examples used for its sharpness, or its number of runs.
#   Sharpness is compared by ratios and orders, never by values.
# - Batch sizes are compared at equal epochs, as in the paper. With scaled learning rates they end at about
#   the same training loss; with fixed rates they do not.
# - Keskar's metric after a few iterations, as published, is a lower bound. It depends on the scale of weights
#   and loss.
# - The authors repeated some runs under several names. The paper prints one factor for the smallest batch; the
#   repeats scatter widely around it, and the rule counts their range as the source's own spread. Shares of the authors'
#   updates count the epochs at which their runs stopped.
# - The paper's accuracies are of validation images, which also end the training. Here claims on accuracy use
#   the test images, on which nothing was selected.
# - With the laptop profile's first seeds many claims on SGD were undecided. So seeds were added to its arms
#   with dropout. Their number was fixed before they ran. Intervals do not account for this second look.
# - The quick profile's networks, rates and epochs were set after a look at training curves of other seeds.
#   Its networks and images are so small that its verdicts hold only for a toy problem.

# %% tags=["nbval-ignore-output"]
provenance.table(results)
