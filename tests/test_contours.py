"""Tests of bsglib.figures.contours."""

import numpy as np
import pytest

from bsglib.figures import contours, style
from bsglib.landscape import Surface

pytestmark = pytest.mark.usefixtures("report_style")


def surface(scale=1.0):
    """A plane with more points along a than along b, which grows fastest with a."""
    a, b = np.linspace(-1, 1, 7), np.linspace(-0.5, 0.5, 5)
    loss = scale * 10.0 ** (a[:, None] + 2 + 0.1 * b)
    return Surface(a=a, b=b, loss=loss, n=10, cosine=0.0)


def holed(value=np.nan):
    broken = surface(10)
    broken.loss[0, 0], broken.loss[6, 4] = value, value
    return broken


def test_the_shared_range_covers_all_surfaces_and_no_missing_point():
    for missing in (np.nan, np.inf, -np.inf, 0.0):
        low, high = contours.loss_range([surface(), holed(missing)])
        assert np.isclose(low, surface().loss.min())
        assert np.isclose(high, holed().loss[6, 3])
    low, high = contours.loss_range([Surface(surface().a, surface().b, np.full((7, 5), 2.0), 1, 0)])
    assert low < 2 < high
    with pytest.raises(ValueError, match="no point has a finite loss"):
        contours.loss_range([Surface(surface().a, None, np.full(7, np.nan), 1, None)])


def test_contours_put_a_upwards_of_nothing_and_along_x():
    fig, axes = style.panels(1, 1, height=3)
    given = surface()
    ax = contours.plot_contours(given, axes[0, 0], range=contours.loss_range([given]))
    assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-0.5, 0.5)
    assert ax.get_xlabel() and ax.get_ylabel() and ax.get_aspect() == 1
    (lines,) = [c for c in ax.collections if not c.filled]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        x, y = path.vertices.T
        assert np.allclose(x + 2 + 0.1 * y, level, atol=0.02)  # log10 of the loss given above
    assert ax.lines[-1].get_marker() == "x"
    assert [*ax.lines[-1].get_xdata(), *ax.lines[-1].get_ydata()] == [0, 0]


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_missing_points_are_hatched_and_never_filled(missing):
    fig, axes = style.panels(1, 2, height=3)
    both = [surface(), holed(missing)]
    for ax, given in zip(axes[0], both, strict=True):
        contours.plot_contours(given, ax, range=contours.loss_range(both))
    assert [bool(ax.patch.get_hatch()) for ax in axes[0]] == [False, True]
    assert axes[0, 0].collections[0].get_clim() == axes[0, 1].collections[0].get_clim()

    def filled(ax, x, y):
        paths = ax.collections[0].get_paths()
        return any(path.contains_point((x, y)) for path in paths if len(path.vertices))

    corner = (-0.95, -0.45)  # within the cell of a[0], b[0]
    assert filled(axes[0, 0], *corner) and not filled(axes[0, 1], *corner)
    assert filled(axes[0, 1], -0.95, 0.45), "the corner of a[0], b[-1] is there"


def test_a_coarse_panel_has_a_grid_of_its_own_whose_points_are_drawn():
    one = surface()
    few = Surface(one.a[::3], one.b[::2], one.loss[::3, ::2], 1, 0.0)
    with pytest.raises(ValueError, match="their a differ"):
        contours.contour_panels({"fine": one, "coarse": few})
    panels = {"fine": one, "coarse": few, "other": one, "missing": None}
    fig = contours.contour_panels(panels, coarse=["coarse", "missing"])
    drawn = [sum(len(line.get_xdata()) for line in ax.lines) for ax in fig.axes[:4]]
    assert drawn == [1, few.loss.size + 1, 1, 0], "a cross, and the points"


def test_what_cannot_be_compared_is_refused():
    one = surface()
    curve = Surface(one.a, None, np.ones(7), 1, None)
    wider = Surface(2 * one.a, one.b, one.loss, 1, 0.0)
    refused = (([one], "beside another"), ([one, curve], "curve"), ([one, wider], "their a"))
    for surfaces, error in refused:
        with pytest.raises(ValueError, match=error):
            contours.contour_panels(dict(zip(("SB", "LB"), surfaces, strict=False)))
