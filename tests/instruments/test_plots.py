"""The style, and the plots that every part shares."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_helpers import plots


def axes() -> Axes:
    return Figure(figsize=(6, 4)).add_subplot()


def test_learning_curve_band() -> None:
    # at each step eleven runs end 0, 10, …, 100 higher: percentiles 10, 50 and 90 are themselves
    steps, runs = np.arange(4), np.arange(0, 110, 10)[:, None] + np.arange(4) ** 2
    ax = plots.learning_curve(axes(), steps, runs, label="ours", color=plots.GREEN, line="--")
    (median,) = ax.lines
    np.testing.assert_allclose(median.get_xydata(), np.c_[steps, 50 + steps**2])
    assert (median.get_label(), median.get_color(), median.get_linestyle()) == (
        "ours", plots.GREEN, "--",
    )  # fmt: skip
    corners = np.asarray(ax.collections[0].get_paths()[0].vertices)
    for step in steps:
        heights = corners[corners[:, 0] == step, 1]
        np.testing.assert_allclose([heights.min(), heights.max()], np.array([10, 90]) + step**2)


@pytest.mark.parametrize("runs", [np.ones(4), np.ones((1, 4)), np.ones((3, 5))])
def test_learning_curve_shapes(untyped: None, runs: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"runs has shape .* steps \(4,\); .* seeds >= 2"):
        plots.learning_curve(axes(), np.arange(4), runs, label="ours")


def test_panel_label() -> None:
    ax = plots.panel_label(axes(), "left")
    assert [t.get_text() for t in ax.texts] == ["left"]


def test_style_is_complete() -> None:
    with mpl.rc_context(plots.STYLE):  # raises on an unknown name or value
        used = {style["color"] for style in mpl.rcParams["axes.prop_cycle"]}
    assert used <= set(plots.THEMED), "every colour of a line follows the theme"
