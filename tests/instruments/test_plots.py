"""The style, and the plots that every part shares."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from rl_helpers import plots


def axes() -> Axes:
    return Figure(figsize=(6, 4)).add_subplot()


def test_learning_curve_band() -> None:
    # at each step eleven runs end 0, 1, 4, …, 100 higher: of these squares the 10th, 50th and 90th
    # percentiles are 1, 25 and 81; their mean is 35
    order = np.array([7, 2, 10, 0, 5, 9, 1, 4, 8, 3, 6])  # seeds come in any order
    steps = np.array([0, 10, 40, 50])
    rise = np.array([0.0, -3.0, 2.0, 20.0])
    ax = axes()
    drawn = plots.learning_curve(
        ax, steps, order[:, None] ** 2 + rise, label="ours", color=plots.GREEN, line="--"
    )
    assert drawn is ax
    (median,) = ax.lines
    np.testing.assert_allclose(median.get_xydata(), np.c_[steps, 25 + rise])
    assert (median.get_label(), median.get_color(), median.get_linestyle()) == (
        "ours", plots.GREEN, "--",
    )  # fmt: skip
    (band,) = ax.collections
    (colour,) = np.asarray(band.get_facecolor())
    assert to_hex(colour) == plots.GREEN
    assert 0 < colour[3] < 0.5, "the line is seen through its band"
    corners = np.asarray(band.get_paths()[0].vertices)
    assert set(corners[:, 0]) == set(steps)
    for step, height in zip(steps, rise, strict=True):
        heights = corners[corners[:, 0] == step, 1]
        np.testing.assert_allclose([heights.min(), heights.max()], [1 + height, 81 + height])
    assert ax.get_legend_handles_labels()[1] == ["ours"], "the band has no name of its own"


def test_learning_curve_is_blue_and_solid_unless_told() -> None:
    (median,) = plots.learning_curve(axes(), [0, 1], [[0, 1], [2, 3]], label="x").lines
    assert (median.get_color(), median.get_linestyle()) == (plots.BLUE, "-")


@pytest.mark.parametrize("runs", [np.ones(4), np.ones((1, 4)), np.ones((3, 5))])
def test_learning_curve_shapes(untyped: None, runs: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"runs has shape .* steps \(4,\); .* seeds >= 2"):
        plots.learning_curve(axes(), np.arange(4), runs, label="ours")


def test_panel_label_stands_above_the_left_corner() -> None:
    ax = axes()
    assert plots.panel_label(ax, "left") is ax
    (label,) = ax.texts
    assert label.get_text() == "left"
    box, panel = label.get_window_extent(), ax.get_window_extent()
    assert box.x0 == pytest.approx(panel.x0, abs=2)
    assert panel.y1 < box.y0 < panel.y1 + 15


def test_style_is_complete() -> None:
    with mpl.rc_context(plots.STYLE):  # raises on an unknown name or value
        used = {style["color"] for style in mpl.rcParams["axes.prop_cycle"]}
    assert used <= set(plots.THEMED), "every colour of a line follows the theme"


def test_curves_note_their_seeds_and_band() -> None:
    """Of all panels of a figure, each pair once; another figure knows nothing of them."""
    figure, other = Figure(), Figure()
    left, right = figure.subplots(1, 2)
    for ax in (left, left, right):
        plots.learning_curve(ax, [0, 1], np.zeros((16, 2)), label="a")
    plots.note_runs(right, 2_000, (5, 95))
    assert plots.runs_shown(figure) == [
        {"seeds": 16, "band": [10, 90]},
        {"seeds": 2_000, "band": [5, 95]},
    ]
    assert plots.runs_shown(other) == []


@pytest.mark.parametrize(("seeds", "band"), [(1, (10, 90)), (16, (90, 10)), (16, (10, 101))])
def test_no_band_of_nothing(seeds: int, band: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="allowed are seeds >= 2 and rising percentiles"):
        plots.note_runs(Figure().subplots(), seeds, band)


def test_a_band_of_all_runs_in_a_part_of_a_figure_is_the_whole_figures() -> None:
    figure = Figure()
    plots.note_runs(figure.subfigures(2)[0].subplots(), 2, (0, 100))
    assert plots.runs_shown(figure) == [{"seeds": 2, "band": [0, 100]}]


def test_a_panel_has_two_axes_and_no_frame() -> None:
    with mpl.rc_context(plots.STYLE):
        spines = Figure().subplots().spines
    assert {name for name, line in spines.items() if line.get_visible()} == {"left", "bottom"}


def test_an_arrow_leads_across_the_gap_between_two_panels() -> None:
    figure = Figure(figsize=(6, 2))
    left, right = figure.subplots(1, 2)
    assert plots.lead_to(left, right) is right
    (arrow,) = figure.artists
    assert isinstance(arrow, FancyArrowPatch)
    assert to_hex(arrow.get_edgecolor()) == plots.INK, "a colour that follows the theme"
    path = arrow.get_path()  # of its line and its head, in parts of the figure
    corners = path.vertices[path.codes != path.CLOSEPOLY]
    tail, tip = corners[:, 0].min(), corners[:, 0].max()
    a, b = left.get_position(), right.get_position()
    assert a.x1 < tail < tip < b.x0
    assert tip - tail > 0.6 * (b.x0 - a.x1)
    assert corners[:, 0].argmax() > 1, "the tip is the head's"
    assert corners[:, 1].mean() == pytest.approx((a.y0 + a.y1) / 2, abs=0.01)
