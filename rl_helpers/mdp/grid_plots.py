"""Grid worlds drawn: values as shades, policies as arrows, advantages as triangles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rl_helpers.mdp.gridworld import GridWorld
from rl_helpers.plots import BLUE, GRID, INK, MUTED, ORANGE


def grid_axes(fig: Figure, panels: int = 2) -> list[Axes]:
    """Axes for grid worlds side by side, with room for a `panel_label` and no more."""
    fig.subplots_adjust(left=0.005, right=0.995, bottom=0.02, top=0.87, wspace=0.08)
    return list(fig.subplots(1, panels, squeeze=False)[0])


def grid_values(
    ax: Axes, world: "GridWorld", values: ArrayLike, *, limit: float = 1.0, digits: int | None = 2
) -> Axes:
    """Shade a grid world's cells by value: blue above zero, orange below, fading into the page at
    zero.

    Args:
        ax: axes to draw on.
        world: the grid world.
        values: shape [S], one value a state.
        limit: absolute value drawn at full strength.
        digits: decimals printed in each cell, or None for no numbers.
    """
    numbers = _per_state(world, values, "values", 1)
    _empty_grid(ax, world)
    strength = 0.62 * np.minimum(1.0, np.abs(numbers) / limit)
    _cells(ax, world.cells, [BLUE if value >= 0 else ORANGE for value in numbers], strength)
    if digits is not None:
        for value, (row, column) in zip(numbers, world.cells, strict=True):
            if world.layout[row][column] not in "GX":
                cell_text(ax, row, column, _signed(float(value), digits))
    return ax


def grid_arrows(
    ax: Axes, world: "GridWorld", policy: ArrayLike, *, color: str = INK, power: float = 1.0
) -> Axes:
    """Draw a policy as arrows, one for each action, as long as the action is probable.

    Args:
        ax: axes to draw on.
        world: the grid world.
        policy: shape [S, A], rows sum to 1.
        color: colour of the arrows.
        power: of the probability, which gives the length; a half lets unlikely actions be seen.
    """
    probabilities = _per_state(world, policy, "policy", 2)
    _empty_grid(ax, world)
    style = "-|>,head_width=0.16,head_length=0.26"
    arrow = {"arrowstyle": style, "color": color, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    for state, (row, column) in enumerate(world.cells):
        if world.layout[row][column] in "GX":
            continue
        for action, (down, right) in enumerate(world.moves):
            length = 0.36 * float(probabilities[state, action]) ** power
            x, y = column + 0.5, row + 0.5
            if length > 0.02:
                # Several arrows start at the centre; the only one of a sure policy is centred.
                back = 0.5 if probabilities[state, action] > 0.99 else 0.0
                tail = (x - back * length * right, y - back * length * down)
                tip = (tail[0] + length * right, tail[1] + length * down)
                ax.annotate("", xytext=tail, xy=tip, arrowprops=arrow, zorder=5)
    return ax


def grid_actions(ax: Axes, world: "GridWorld", values: ArrayLike, *, limit: float = 0.8) -> Axes:
    """Cut each cell into four triangles, one for each action, shaded by value as in `grid_values`.

    A plus marks values above 0.005, for readers who do not tell the colours apart.

    Args:
        ax: axes to draw on.
        world: the grid world.
        values: shape [S, A], such as the advantage of each action.
        limit: absolute value drawn at full strength.
    """
    numbers = _per_state(world, values, "values", 2)
    _empty_grid(ax, world)
    centres = np.array(world.cells) + 0.5  # rows and columns
    for action, (down, right) in enumerate(world.moves):
        value, ahead = numbers[:, action], np.array([down, right]) / 2
        aside = ahead[::-1]
        corners = np.stack([centres, centres + ahead + aside, centres + ahead - aside], axis=1)
        triangles = PolyCollection(
            list(corners[:, :, ::-1]),
            facecolors=np.where(value > 0, BLUE, ORANGE),
            alpha=0.75 * np.minimum(1.0, np.abs(value) / limit),
            linewidth=0,
        )
        ax.add_collection(triangles)
        row, column = (centres + 0.66 * ahead)[value > 0.005].T
        ax.plot(column, row, "+", color=INK, markersize=4, markeredgewidth=0.9)
    return ax


def cell_text(ax: Axes, row: int, column: int, text: str, **style: Any) -> Axes:
    """Write into a cell of a grid world; rows and columns count from 0 at the top left."""
    place = {"ha": "center", "va": "center", "fontsize": 10, "zorder": 4}
    ax.text(column + 0.5, row + 0.5, text, **{**place, **style})
    return ax


def _empty_grid(ax: Axes, world: "GridWorld") -> None:
    if getattr(ax, "_grid_drawn", False):  # values and arrows may share one set of axes
        return
    ax._grid_drawn = True  # type: ignore[attr-defined]
    rows, columns = len(world.layout), len(world.layout[0])
    ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal", xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=MUTED)
    for row, line in enumerate(world.layout):
        for column, cell in enumerate(line):
            if cell in "GX":
                cell_text(ax, row, column, "goal" if cell == "G" else "pit", style="italic")
    every = [(row, column) for row in range(rows) for column in range(columns)]
    _cells(ax, every, "none", edgecolors=GRID, linewidth=0.8, zorder=2)
    walls = [(row, column) for row, column in every if world.layout[row][column] == "#"]
    if walls:
        _cells(ax, walls, MUTED, zorder=3)


def _cells(
    ax: Axes,
    cells: Sequence[tuple[int, int]],
    color: Any,
    alpha: ArrayLike | None = None,
    **style: Any,
) -> None:
    """One collection for all cells: drawing is several times faster than with one patch each."""
    squares = [[(c, r), (c + 1, r), (c + 1, r + 1), (c, r + 1)] for r, c in cells]
    style = {"linewidth": 0, "zorder": 1, **style}
    ax.add_collection(PolyCollection(squares, facecolors=color, alpha=alpha, **style))


def _per_state(world: "GridWorld", array: ArrayLike, name: str, ndim: int) -> np.ndarray:
    numbers = np.asarray(array, dtype=float)
    shape = (world.mdp.n_states, world.mdp.n_actions)[:ndim]
    if numbers.shape != shape:
        raise ValueError(f"{name} has shape {numbers.shape}; this grid world needs {shape}")
    return numbers


def _signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
