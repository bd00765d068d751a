"""Grid worlds: a map, and the decision process that it stands for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from rl_helpers.mdp.process import MDP
from rl_helpers.validation import require_unit


@dataclass(frozen=True, eq=False)
class GridWorld:
    """A grid world: its MDP, and how to draw it.

    Args:
        mdp: the decision process; state s is `cells[s]`.
        layout: the rows of the map: `S` start, `.` free, `#` wall, `G` goal, `X` pit.
        cells: row and column of each state.
    """

    mdp: MDP
    layout: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]

    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (down, right) of the actions up, right, down, left
    actions = ("up", "right", "down", "left")

    def state(self, row: int, column: int) -> int:
        """Number of the state at a row and column, counted from 0 at the top left."""
        if (row, column) not in self.cells:
            raise ValueError(
                f"({row}, {column}) is no state of this grid world: it is a wall or outside the map"
            )
        return self.cells.index((row, column))


def gridworld(
    layout: Sequence[str],
    *,
    slip: float = 0.1,
    gamma: float = 0.95,
    goal: float = 1.0,
    pit: float = -1.0,
    step: float = 0.0,
    store_sparse: bool = False,
) -> GridWorld:
    """A grid world with slippery ground.

    An action moves one cell up, right, down or left; with probability `slip` the agent slides
    instead to one of the two sides, each with half of it. A move into a wall or the edge leaves
    the agent where it is. The reward `goal` or `pit` is received on entering such a cell; both are
    absorbing and give nothing afterwards.

    Args:
        layout: rows of equal length over `S` start, `.` free, `#` wall, `G` goal, `X` pit; at
            least one `S`.
        slip: probability of sliding, 0 to 1.
        gamma: discount, 0 <= gamma < 1.
        goal, pit: reward for entering such a cell.
        step: reward of every move made from a cell that is not absorbing.
        store_sparse: keep P as a SciPy sparse array [S*A, S]: memory grows with the number of
            transitions.

    Raises:
        ValueError: rows of unequal length, unknown symbols, no start, slip outside [0, 1], gamma
            outside [0, 1).
    """
    rows = tuple(layout)
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"layout has rows of lengths {[len(row) for row in rows]}; all must be equal and at least 1"
        )
    if unknown := set("".join(rows)) - set("S.#GX"):
        raise ValueError(f"layout holds {sorted(unknown)}; allowed are S . # G X")
    if "S" not in "".join(rows):
        raise ValueError("layout has no start cell 'S'")
    require_unit(slip=slip)
    cells = tuple((r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell != "#")
    number = {cell: state for state, cell in enumerate(cells)}
    entering = np.array([{"G": goal, "X": pit}.get(rows[r][c], 0.0) for r, c in cells])
    absorbing = np.array([rows[r][c] in "GX" for r, c in cells])
    # landing[s, d]: where a step in direction d from s ends
    landing = np.array(
        [
            [
                s if absorbing[s] else number.get((r + down, c + right), s)
                for down, right in GridWorld.moves
            ]
            for s, (r, c) in enumerate(cells)
        ]
    )
    states, actions = np.indices(landing.shape)
    data, row, column = [], [], []
    for turn, probability in ((0, 1 - slip), (1, slip / 2), (3, slip / 2)):
        data.append(np.full(landing.size, probability))
        row.append((states * 4 + actions).ravel())
        column.append(landing[states, (actions + turn) % 4].ravel())
    P = sparse.csr_array(  # entries for the same pair of row and column are added up
        (np.concatenate(data), (np.concatenate(row), np.concatenate(column))),
        shape=(4 * len(cells), len(cells)),
    )
    R = (P @ entering).reshape(-1, 4) + step
    R[absorbing] = 0.0
    p0 = np.array([float(rows[r][c] == "S") for r, c in cells])
    if not store_sparse:
        P = P.toarray().reshape(len(cells), 4, len(cells))
    return GridWorld(MDP(P, R, gamma, p0 / p0.sum()), rows, cells)
