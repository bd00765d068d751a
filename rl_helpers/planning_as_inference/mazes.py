"""Random mazes in which policies are judged exactly: with a cell blocked, and by what they find."""

import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import shortest_path

from rl_helpers.mdp import planning
from rl_helpers.mdp.gridworld import GridWorld, gridworld
from rl_helpers.mdp.process import Array, under_policy
from rl_helpers.mdp.trajectories import occupancy
from rl_helpers.planning_as_inference.soft_q_learning import epsilon_greedy
from rl_helpers.validation import require, require_discount


def random_maze(
    rng: np.random.Generator, *, size: int = 7, walls: float = 0.1, gamma: float = 0.99
) -> tuple[GridWorld, int]:
    """A maze in which every step costs 1 until the goal, and the state that is farthest off.

    The start is the top left corner; the goal is half as far from it as the farthest cell. Distances
    are those before the goal is there to stop at, and it cuts no cell off. Maps that do not fit are
    drawn anew.

    Args:
        rng: source of the randomness.
        size: number of rows and of columns, at least 3.
        walls: probability of a wall, 0 to 0.3: with more, hardly a map has all of its cells joined.
        gamma: discount, 0 <= gamma < 1.

    Returns:
        The world, of dry ground, and the number of the farthest state.
    """
    require(size >= 3, "size", size, "it must be at least 3")
    require(0 <= walls <= 0.3, "walls", walls, "allowed is 0 <= walls <= 0.3")
    require_discount(gamma=gamma)
    while True:
        cells = rng.choice([".", "#"], p=[1 - walls, walls], size=(size, size))
        cells[0, 0] = "S"
        world = _costly(cells, gamma)
        far = _distances(world)
        if not np.isfinite(far).all() or far.max() < 2:
            continue
        cells[world.cells[int((far == far.max() // 2).argmax())]] = "G"
        world = _costly(cells, gamma)
        if np.isfinite(_distances(world)).all():  # the goal is absorbing: it may cut cells off
            return world, int(far.argmax())


def goal_state(world: GridWorld) -> int:
    """Number of the goal's state."""
    return [world.layout[row][column] for row, column in world.cells].index("G")


def blocked_mazes(world: GridWorld, policy: Float[Array, "S A"]) -> list[GridWorld]:
    """The maze with a wall on one cell of the policy's path, for each that leaves the goal in reach.

    Args:
        world: a maze, as `random_maze` makes it.
        policy: of which the likeliest action is followed from the start to the goal [S, A].

    Raises:
        ValueError: a path that does not lead to the goal.
    """
    goal = goal_state(world)
    found: list[GridWorld] = []
    state = int(world.mdp.p0.argmax())
    for _ in range(world.mdp.n_states):
        state = int(world.mdp.P[state, policy[state].argmax()].argmax())
        if state == goal:
            return found
        cells = np.array([list(row) for row in world.layout])
        if cells[world.cells[state]] == "S":
            break
        cells[world.cells[state]] = "#"
        blocked = _costly(cells, world.mdp.gamma)
        if np.isfinite(_distances(blocked)[goal_state(blocked)]):
            found.append(blocked)
    raise ValueError("policy does not lead to the goal of this maze by its likeliest actions")


def carried_over(
    policy: Float[Array, "S A"], world: GridWorld, other: GridWorld
) -> Float[Array, "S2 A"]:
    """The policy of one map in the cells of another, which must all be cells of the first."""
    return policy[[world.state(*cell) for cell in other.cells]]


def steps_to_find(world: GridWorld, policy: Float[Array, "S A"], target: int) -> float:
    """Mean number of steps from the start to a state, beginning again after the goal is reached.

    Args:
        world: a maze.
        policy: one that gets there [S, A].
        target: number of the state to be found; neither start nor goal.
    """
    P_pi = under_policy(world.mdp, policy)[0]
    P_pi[goal_state(world)] = world.mdp.p0
    rest = np.delete(np.arange(world.mdp.n_states), target)
    times = np.linalg.solve(np.eye(len(rest)) - P_pi[np.ix_(rest, rest)], np.ones(len(rest)))
    return float(times @ world.mdp.p0[rest])


def pushes(world: GridWorld, policy: Float[Array, "S A"]) -> float:
    """Share of a policy's steps before the goal that are moves into a wall or the edge.

    Steps are weighted by the discount.
    """
    stays = np.einsum("sas->sa", world.mdp.P) > 0
    d = occupancy(world.mdp, policy)
    d[goal_state(world)] = 0.0
    return float((d * stays).sum() / d.sum())


def epsilon_greedy_of_return(
    world: GridWorld, Q: Float[Array, "S A"], J: float
) -> Float[Array, "S A"]:
    """The ε-greedy policy for Q whose objective is J, by bisection of ε.

    Raises:
        ValueError: no ε from 0 to 1 earns J.
    """

    def earned(epsilon: float) -> float:
        return planning.objective(world.mdp, epsilon_greedy(Q, epsilon))

    low, high = 0.0, 1.0
    if not earned(high) <= J <= earned(low) + 1e-9:
        raise ValueError(f"J is {J:.6g}; allowed is {earned(high):.6g} to {earned(low):.6g}")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if earned(middle) > J else (low, middle)
    return epsilon_greedy(Q, (low + high) / 2)


def _costly(cells: Array, gamma: float) -> GridWorld:
    rows = ["".join(row) for row in cells]
    return gridworld(rows, slip=0.0, gamma=gamma, goal=0.0, step=-1.0)


def _distances(world: GridWorld) -> Float[Array, " S"]:
    """Moves from the start to each state; infinite where no way leads."""
    start = int(world.mdp.p0.argmax())
    return shortest_path(world.mdp.P.sum(axis=1) > 0, unweighted=True, indices=start)
