"""House style of the figures, and the few plots that every part shares.

Figures are drawn for a light page and follow the theme in the built book: the colours below are
replaced by CSS variables, backgrounds are transparent, and shading is done by opacity so that weak
values fade into the page, whatever its colour. Colours are those of Okabe and Ito (2008); line
style or marker goes with colour. Plot functions take `ax`, draw on it and return it.
"""

from importlib.resources import files
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import FancyArrowPatch
from numpy.typing import ArrayLike

INK, MUTED, GRID, PAPER = "#222222", "#6e6e6e", "#dedede", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
)
THEMED = {
    INK: "--fig-ink", MUTED: "--fig-muted", GRID: "--fig-grid", PAPER: "--fig-paper",
    BLUE: "--fig-blue", ORANGE: "--fig-orange", GREEN: "--fig-green",
    PURPLE: "--fig-purple", SKY: "--fig-sky", AMBER: "--fig-amber",
}  # fmt: skip
LINES = ["-", "--", "-.", ":"]
BAND = (10, 90)  # percentiles over seeds

_runs: WeakKeyDictionary[FigureBase, set[tuple[int, tuple[int, int]]]] = WeakKeyDictionary()

for _weight in ("Regular", "It", "Semibold"):
    font_manager.fontManager.addfont(
        str(files("font_source_sans_pro") / "files" / f"SourceSansPro-{_weight}.ttf")
    )

STYLE: Any = {
    "font.family": "Source Sans Pro",
    "font.size": 12,
    "mathtext.fontset": "custom",
    "mathtext.rm": "Source Sans Pro",
    "mathtext.it": "Source Sans Pro:italic",
    "mathtext.cal": "Source Sans Pro:italic",
    "mathtext.sf": "Source Sans Pro",
    "mathtext.tt": "Source Sans Pro",
    "mathtext.bf": "Source Sans Pro:semibold",
    "mathtext.fallback": "stixsans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE]) + cycler(linestyle=LINES),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 11,
    # One margin for all frames: a figure must not jump while its slider moves.
    "figure.subplot.left": 0.1,
    "figure.subplot.right": 0.985,
    "figure.subplot.bottom": 0.18,
    "figure.subplot.top": 0.9,
    "figure.subplot.wspace": 0.3,
}


def panel_label(ax: Axes, text: str) -> Axes:
    """Name a panel, in small type above its left corner."""
    ax.annotate(
        text,
        (0, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        va="bottom",
    )
    return ax


def lead_to(left: Axes, right: Axes) -> Axes:
    """Draw an arrow from one panel to the next, across the gap between them.

    Args:
        left, right: axes of one figure, side by side, where they will stay.
    """
    figure = left.get_figure(root=True)
    assert figure is not None
    (start, end), gap = (left.get_position().x1, right.get_position().x0), 0.004
    height = (right.get_position().y0 + right.get_position().y1) / 2
    figure.add_artist(
        FancyArrowPatch(
            (start + gap, height), (end - gap, height), transform=figure.transFigure,
            arrowstyle="-|>", mutation_scale=12, linewidth=1.2, color=INK, shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip
    return right


def note_runs(ax: Axes, seeds: int, band: tuple[int, int] = BAND) -> Axes:
    """Note that a figure shows a band over seeds: the build holds the figure's caption to it.

    Args:
        ax: axes of the figure.
        seeds: how many, at least two.
        band: percentiles of the band's lower and upper edge.
    """
    if seeds < 2 or not 0 <= band[0] < band[1] <= 100:
        raise ValueError(
            f"seeds is {seeds}, band {band}; allowed are seeds >= 2 and rising percentiles"
        )
    figure = ax.get_figure(root=True)
    assert figure is not None
    _runs.setdefault(figure, set()).add((seeds, band))
    return ax


def runs_shown(figure: FigureBase) -> list[dict[str, Any]]:
    """The numbers of seeds and the bands that a figure shows, as records for its metadata."""
    return [{"seeds": n, "band": list(band)} for n, band in sorted(_runs.get(figure, ()))]


def learning_curve(
    ax: Axes, steps: ArrayLike, runs: ArrayLike, *, label: str, color: str = BLUE, line: str = "-"
) -> Axes:
    """Median over seeds, with a band from the 10th to the 90th percentile.

    Args:
        ax: axes to draw on.
        steps: shape [n], what was spent (environment steps, episodes, sweeps).
        runs: shape [seeds, n], at least two seeds.
        label: name in the legend.
        color, line: colour and line style of the median.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(runs, dtype=float)
    if y.ndim != 2 or len(y) < 2 or y.shape[1:] != x.shape:
        raise ValueError(
            f"runs has shape {y.shape}, steps {x.shape}; allowed are [seeds, n] and [n], seeds >= 2"
        )
    note_runs(ax, len(y))
    low, middle, high = np.percentile(y, [BAND[0], 50, BAND[1]], axis=0)
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(x, middle, color=color, linestyle=line, label=label)
    return ax
