"""What the plots of grid worlds draw: directions, labels and shades, in coordinates of the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import ArrowStyle
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


def colours(collection: PolyCollection) -> np.ndarray:
    """Red, green, blue and opacity of each polygon."""
    return np.asarray(collection.get_facecolor())


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


def test_the_head_is_at_the_tip(world: GridWorld) -> None:
    ax = grid_plots.grid_arrows(axes(), world, sure(world, UP), color=plots.ORANGE)
    for arrow in arrows(ax):
        assert isinstance(arrow.arrow_patch.get_arrowstyle(), ArrowStyle.get_styles()["-|>"])
        assert to_hex(arrow.arrow_patch.get_edgecolor()) == plots.ORANGE


def test_every_cell_has_the_arrows_of_its_own_state() -> None:
    """No two states act alike, and the grid is not square: a transposed one would show."""
    world = gridworld(("S..", "..."))
    policy = np.array([
        [0.7, 0.3, 0.0, 0.0], [0.0, 0.6, 0.4, 0.0], [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.2, 0.0, 0.8], [0.25, 0.25, 0.25, 0.25], [0.93, 0.0, 0.02, 0.05],
    ])  # fmt: skip
    ax = grid_plots.grid_arrows(axes(), world, policy)
    drawn = np.zeros_like(policy)
    for arrow in arrows(ax):
        (x0, y0), (x1, y1) = arrow.xyann, arrow.xy
        row, column = int(min(y0, y1)), int(min(x0, x1))
        assert (int(max(y0, y1)), int(max(x0, x1))) == (row, column), "it stays in its cell"
        pointing = np.sign(np.round(on_page(ax, arrow)))
        action = [(0, 1), (1, 0), (0, -1), (-1, 0)].index(tuple(pointing))
        state = world.state(row, column)
        drawn[state, action] = np.hypot(x1 - x0, y1 - y0)
        # a sure arrow is centred, all others start at the centre
        start = [x0, y0] if policy[state, action] < 1 else [(x0 + x1) / 2, (y0 + y1) / 2]
        np.testing.assert_allclose(start, [column + 0.5, row + 0.5])
    seen = np.where(policy > 0.0556, policy, 0)  # shorter ones would be heads without an arrow
    np.testing.assert_allclose(drawn, 0.36 * seen, atol=1e-9)


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
    ax = grid_plots.grid_arrows(axes(), world, policy, power=0.5)
    lengths = [np.hypot(*on_page(ax, arrow)) for arrow in arrows(ax)[:3]]
    np.testing.assert_allclose((np.array(lengths) / lengths[0]) ** 2, [1, 1 / 2, 1 / 6])


def test_grid_worlds_share_a_figure_below_their_labels() -> None:
    left, right = grid_plots.grid_axes(Figure(figsize=(8, 3)))
    first, second = left.get_position(), right.get_position()
    edges = [first.x0, first.y0, first.y1, second.x1]
    assert edges == pytest.approx([0.005, 0.02, 0.87, 0.995])
    assert second.x0 - first.x1 == pytest.approx(0.08 * first.width)


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
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 3), (2, 0)), "the map fills its axes"
    assert ax.get_aspect() == 1


def test_values_are_shaded_and_printed(world: GridWorld) -> None:
    values = np.array([0.5, -0.25, -0.001, 3.0, 1.0])
    ax = grid_plots.grid_values(axes(), world, values, limit=0.5)
    _, shade = filled(ax)
    colours = [to_hex(c) for c in shade.get_facecolor()]
    assert colours == [plots.BLUE, plots.ORANGE, plots.ORANGE, plots.BLUE, plots.BLUE]
    strength = np.asarray(shade.get_facecolor())[:, 3]
    where = [path.get_extents().bounds for path in shade.get_paths()]
    assert where == [(0, 0, 1, 1), (1, 0, 1, 1), (0, 1, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1)]
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


def test_values_are_shaded_up_to_one_unless_told(world: GridWorld) -> None:
    values = np.array([0.5, -0.25, 0.0, 2.0, 1.0])
    _, shade = filled(grid_plots.grid_values(axes(), world, values, digits=1))
    strength = np.asarray(shade.get_facecolor())[:, 3]
    np.testing.assert_allclose(strength, 0.62 * np.array([0.5, 0.25, 0, 1, 1]))


def test_numbers_have_their_digits(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.array([1.0, -0.26, -0.04, 0, 0]), digits=1)
    assert [t.get_text() for t in ax.texts if t.get_fontstyle() == "normal"] == [
        "1.0",
        "−0.3",
        "0.0",
    ]


def test_values_without_numbers(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.ones(5), digits=None)
    assert [t.get_text() for t in ax.texts] == ["pit", "goal"]


def test_the_wall_is_drawn_where_it_is(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.ones(5))
    wall, _ = filled(ax)
    assert to_hex(wall.get_facecolor()[0]) == plots.MUTED
    assert wall.get_paths()[0].get_extents().bounds == (2, 0, 1, 1)  # row 0, column 2


def test_every_cell_has_an_outline_under_its_wall(world: GridWorld) -> None:
    ax = grid_plots.grid_values(axes(), world, np.ones(5))
    (outline,) = [c for c in ax.collections if not len(c.get_facecolor())]
    corners = {path.get_extents().bounds[:2] for path in outline.get_paths()}
    assert corners == {(column, row) for row in range(2) for column in range(3)}
    assert {to_hex(colour) for colour in outline.get_edgecolor()} == {plots.GRID}
    wall, shade = filled(ax)
    assert wall.get_zorder() > outline.get_zorder() > shade.get_zorder()


# ---- Triangles ----------------------------------------------------------------------------------

# no two alike, of both signs, and in no order
ADVANTAGES = np.array([
    [0.40, -0.10, 0.25, -0.90], [-0.30, 0.15, -0.45, 0.05], [0.80, 0.20, -0.60, -0.05],
    [-0.75, 0.35, 0.65, -0.20], [0.95, -0.55, 0.10, 0.70],
])  # fmt: skip


def beside(ax: Axes, world: GridWorld, x: float, y: float) -> tuple[int, int]:
    """State and action of a place in the grid: on which side of its cell's centre it lies."""
    ax.apply_aspect()
    state = world.state(int(y), int(x))
    centre = (int(x) + 0.5, int(y) + 0.5)
    right, up = np.subtract(*ax.transData.transform([(x, y), centre]))
    sides = {UP: up, RIGHT: right, DOWN: -up, LEFT: -right}
    return state, max(sides, key=lambda action: sides[action])


def test_triangles_are_shaded_on_the_side_of_their_action(world: GridWorld) -> None:
    ax = axes()
    assert grid_plots.grid_actions(ax, world, ADVANTAGES, limit=0.5) is ax
    strength = np.full((5, 4), np.nan)
    for collection in filled(ax)[1:]:  # the first is the wall
        for path, colour in zip(collection.get_paths(), colours(collection), strict=True):
            corners = np.asarray(path.vertices)[:3]
            state, action = beside(ax, world, *corners.mean(axis=0))
            assert to_hex(colour) == (plots.BLUE if ADVANTAGES[state, action] > 0 else plots.ORANGE)
            assert np.isnan(strength[state, action]), "one triangle for each action"
            strength[state, action] = colour[3]
            # half of the cell's width from the centre to the whole edge: a quarter of the cell
            (a, b), (c, d) = corners[1:] - corners[0]
            assert abs(a * d - b * c) / 2 == pytest.approx(1 / 4)
            row, column = world.cells[state]
            assert {(column + 0.5, row + 0.5)} < set(map(tuple, corners))
            assert (np.abs(corners - [column + 0.5, row + 0.5]) <= 0.5).all()
    # in proportion up to the limit, and no further
    np.testing.assert_allclose(strength, 0.75 * np.minimum(1, np.abs(ADVANTAGES) / 0.5))


def test_triangles_are_shaded_up_to_their_own_limit(world: GridWorld) -> None:
    ax = grid_plots.grid_actions(axes(), world, np.tile([0.2, -0.4, 0.8, 1.6], (5, 1)))
    found = [colours(collection)[0, 3] for collection in filled(ax)[1:]]
    np.testing.assert_allclose(found, 0.75 * np.array([0.25, 0.5, 1, 1]))


def test_a_plus_marks_what_is_better_than_nothing(world: GridWorld) -> None:
    values = ADVANTAGES.copy()
    values[0], values[2, 0] = [0.0049, 0.0051, 0.0, -0.0051], np.nextafter(0.005, 0)
    ax = grid_plots.grid_actions(axes(), world, values)
    marked = np.zeros((5, 4), dtype=int)
    for line in ax.lines:
        assert line.get_marker() == "+"
        assert line.get_linestyle() == "None"
        assert line.get_color() == plots.INK
        for x, y in np.asarray(line.get_xydata()):
            marked[beside(ax, world, x, y)] += 1
            # inside its triangle, on the line from the centre to the middle of the edge
            away = sorted([abs(x % 1 - 0.5), abs(y % 1 - 0.5)])
            assert away[0] == pytest.approx(0)
            assert 0.2 < away[1] < 0.45
    np.testing.assert_array_equal(marked, values > 0.005)


def test_triangles_leave_the_names_of_goal_and_pit(world: GridWorld) -> None:
    ax = grid_plots.grid_actions(axes(), world, ADVANTAGES)
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert texts == {(1.5, 1.5): "pit", (2.5, 1.5): "goal"}


# ---- Axes and shapes ----------------------------------------------------------------------------


def test_text_stands_in_the_middle_of_its_cell() -> None:
    ax = axes()
    assert grid_plots.cell_text(ax, 1, 3, "here", fontsize=7) is ax
    (text,) = ax.texts
    assert (text.get_position(), text.get_text()) == ((3.5, 1.5), "here")
    assert (text.get_horizontalalignment(), text.get_verticalalignment(), text.get_fontsize()) == (
        "center",
        "center",
        7,
    )


def test_axes_stand_side_by_side_below_their_labels() -> None:
    fig = Figure(figsize=(6.4, 3))
    left, middle, right = (ax.get_position() for ax in grid_plots.grid_axes(fig, 3))
    assert 0 < left.x0 < left.x1 < middle.x0 < middle.x1 < right.x0 < right.x1 < 1
    assert left.y0 == middle.y0 == right.y0 > 0
    assert len(grid_plots.grid_axes(Figure())) == 2
    ax = plots.panel_label(grid_plots.grid_axes(fig, 1)[0], "a label")
    assert ax.texts[0].get_window_extent().y1 < fig.bbox.y1


def test_values_and_arrows_share_axes(world: GridWorld) -> None:
    ax = axes()
    assert grid_plots.grid_values(ax, world, np.ones(5)) is ax
    labels = len(ax.texts)
    assert grid_plots.grid_arrows(ax, world, sure(world, UP)) is ax
    assert len(ax.texts) == labels + 3, "the goal and the pit are named once"


@pytest.mark.parametrize(
    ("draw", "name", "shape"),
    [
        (grid_plots.grid_values, "values", "(5,)"),
        (grid_plots.grid_arrows, "policy", "(5, 4)"),
        (grid_plots.grid_actions, "values", "(5, 4)"),
    ],
)
def test_wrong_shapes(untyped: None, world: GridWorld, draw: Any, name: str, shape: str) -> None:
    for bad in (np.ones(6), np.ones((4, 5)), np.ones((5, 3)), np.ones((5, 4, 1))):
        with pytest.raises(ValueError, match=r"needs") as caught:
            draw(axes(), world, bad)
        assert str(caught.value) == f"{name} has shape {bad.shape}; this grid world needs {shape}"
