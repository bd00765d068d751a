"""What the plots of grid worlds draw: directions, labels and shades, in coordinates of the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from rl_helpers import plots
from rl_helpers.mdp import grid_plots
from rl_helpers.mdp.gridworld import GridWorld, gridworld
from rl_helpers.mdp.planning import value_iteration
from tests.mdp.models import DOWN, LEFT, RIGHT, UP

ROOM = ("S.#", ".XG")


def axes() -> Axes:
    return Figure(figsize=(6, 4)).add_subplot()


@pytest.fixture
def world() -> GridWorld:
    return gridworld(ROOM)


def arrows(ax: Axes) -> list[Annotation]:
    return [text for text in ax.texts if isinstance(text, Annotation) and text.arrow_patch]


def filled(ax: Axes) -> list[PolyCollection]:
    found = (c for c in ax.collections if isinstance(c, PolyCollection))
    return [c for c in found if len(c.get_facecolor())]


def on_page(ax: Axes, arrow: Annotation) -> Any:
    """From tail to tip, in pixels: x to the right, y up."""
    ax.apply_aspect()
    tail, tip = ax.transData.transform([arrow.xyann, arrow.xy])
    return tip - tail


def sure(world: GridWorld, action: int) -> np.ndarray:
    return np.eye(4)[[action] * world.mdp.n_states]


@pytest.mark.parametrize(
    ("action", "direction"),
    [(UP, (0, 1)), (RIGHT, (1, 0)), (DOWN, (0, -1)), (LEFT, (-1, 0))],
)
def test_arrows_point_where_the_action_goes(
    world: GridWorld, action: int, direction: tuple[int, int]
) -> None:
    ax = grid_plots.grid_arrows(axes(), world, sure(world, action))
    drawn = [on_page(ax, arrow) for arrow in arrows(ax)]
    assert len(drawn) == 3, "one for each cell that is not absorbing"
    for arrow in drawn:
        np.testing.assert_allclose(arrow / np.linalg.norm(arrow), direction, atol=1e-9)


def test_arrows_stand_in_their_cells(world: GridWorld) -> None:
    ax = grid_plots.grid_arrows(axes(), world, sure(world, DOWN))
    cells = {(int(a.xyann[1]), int(a.xyann[0])) for a in arrows(ax)}
    assert cells == {(0, 0), (0, 1), (1, 0)}


def test_arrows_are_as_long_as_probable(world: GridWorld) -> None:
    policy = np.tile([0.6, 0.3, 0.1, 0.0], (5, 1))
    ax = grid_plots.grid_arrows(axes(), world, policy)
    lengths = [np.hypot(*on_page(ax, arrow)) for arrow in arrows(ax)[:3]]
    assert len(arrows(ax)) == 9, "an impossible action has no arrow"
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 1 / 2, 1 / 6])


def test_arrows_lead_to_the_goal() -> None:
    """The plot and the transitions agree on what up is: following the arrows arrives."""
    world = gridworld(["S..", "##.", "G.."], slip=0.0)
    ax = grid_plots.grid_arrows(axes(), world, value_iteration(world.mdp).policy)
    arrow = {(int(a.xyann[1]), int(a.xyann[0])): on_page(ax, a) for a in arrows(ax)}
    cell = (0, 0)
    for _ in range(6):
        right, up = np.sign(np.round(arrow[cell]))
        cell = (cell[0] - int(up), cell[1] + int(right))
    assert cell == (2, 0)


def test_first_row_is_on_top(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.zeros(5))
    (_, top), (_, bottom) = ax.transData.transform([(0, 0), (0, 1)])
    assert top > bottom


def test_values_are_shaded_and_printed(world: GridWorld) -> None:
    values = np.array([0.5, -0.25, -0.001, 3.0, 1.0])
    ax = grid_plots.grid_values(axes(), world, values, limit=0.5)
    _, shade = filled(ax)
    colours = [to_hex(c) for c in shade.get_facecolor()]
    assert colours == [plots.BLUE, plots.ORANGE, plots.ORANGE, plots.BLUE, plots.BLUE]
    strength = np.asarray(shade.get_facecolor())[:, 3]
    # in proportion up to the limit 0.5, and no further
    np.testing.assert_allclose(strength, 0.62 * np.array([1, 0.5, 0.002, 1, 1]))
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert texts == {
        (0.5, 0.5): "0.50",
        (1.5, 0.5): "−0.25",
        (0.5, 1.5): "0.00",  # not −0.00
        (1.5, 1.5): "pit",
        (2.5, 1.5): "goal",
    }


def test_values_without_numbers(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.ones(5), digits=None)
    assert [t.get_text() for t in ax.texts] == ["pit", "goal"]


def test_the_wall_is_drawn_where_it_is(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.ones(5))
    wall, _ = filled(ax)
    assert to_hex(wall.get_facecolor()[0]) == plots.MUTED
    assert wall.get_paths()[0].get_extents().bounds == (2, 0, 1, 1)  # row 0, column 2


def test_values_and_arrows_share_axes(world: GridWorld) -> None:
    ax = axes()
    assert grid_plots.grid_values(ax, world, np.ones(5)) is ax
    labels = len(ax.texts)
    assert grid_plots.grid_arrows(ax, world, sure(world, UP)) is ax
    assert len(ax.texts) == labels + 3, "the goal and the pit are named once"


@pytest.mark.parametrize("draw", [grid_plots.grid_values, grid_plots.grid_arrows])
def test_wrong_shapes(untyped: None, world: GridWorld, draw: Any) -> None:
    name, shape = ("values", "(5,)") if draw is grid_plots.grid_values else ("policy", "(5, 4)")
    for bad in (np.ones(6), np.ones((5, 3)), np.ones((5, 4, 1))):
        with pytest.raises(ValueError, match=r"needs") as caught:
            draw(axes(), world, bad)
        assert str(caught.value) == f"{name} has shape {bad.shape}; this grid world needs {shape}"
