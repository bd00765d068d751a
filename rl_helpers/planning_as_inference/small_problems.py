"""Small problems that show what conditioning does to luck: a lottery, costly cells, and death."""

from dataclasses import replace

import numpy as np

from rl_helpers.mdp.gridworld import GridWorld
from rl_helpers.mdp.process import MDP
from rl_helpers.planning_as_inference.messages import OptimalityModel
from rl_helpers.validation import require_at_least, require_unit

CHOOSE, SURE, WON, LOST = range(4)  # states of `lottery`
TAKE, BUY = range(2)  # its actions


def lottery(prize: float = 10.0, chance: float = 0.01, sure: float = 1.0) -> MDP:
    """Take a sure gain, or buy a ticket; what it brings is scored one step later, where it led.

    The prize hangs on the transition, not on the action, so that two steps are needed. `prize` is
    subtracted from the reward of every step, which makes none positive.

    Args:
        prize: what the ticket may win, at least 0.
        chance: with which probability, 0 to 1.
        sure: gain without a ticket, at most `prize`.

    Returns:
        An MDP of 4 states, CHOOSE, SURE, WON and LOST, and the actions TAKE and BUY.
    """
    require_unit(chance=chance)
    require_at_least(0, prize=prize)
    require_at_least(sure, prize=prize)
    P = np.zeros((4, 2, 4))
    P[CHOOSE, TAKE, SURE] = 1
    P[CHOOSE, BUY, [WON, LOST]] = chance, 1 - chance
    P[[SURE, WON, LOST], :, [SURE, WON, LOST]] = 1
    gains = np.array([0.0, sure, prize, 0.0])
    return MDP(P, np.repeat(gains[:, None] - prize, 2, axis=1), 0.0, np.eye(4)[CHOOSE])


def costly_cells(
    world: GridWorld, *, step: float = 1.0, pit: float = 5.0, goal: float = 0.0
) -> GridWorld:
    """A grid world in which every step costs what the cell costs in which the robot stands.

    Goal and pits stay absorbing, and go on costing. The cost of a cell is not averaged over where
    a step may lead, so that conditioning can tilt where it leads.

    Args:
        world: a grid world; its rewards are replaced.
        step, pit, goal: cost of a step made in an ordinary cell, in a pit, at the goal, at least 0.
    """
    require_at_least(0, step=step, pit=pit, goal=goal)
    symbols = [world.layout[row][column] for row, column in world.cells]
    cost = np.array([{"X": pit, "G": goal}.get(symbol, step) for symbol in symbols])
    R = -np.repeat(cost[:, None], world.mdp.n_actions, axis=1)
    return replace(world, mdp=replace(world.mdp, R=R))


def mortal(model: OptimalityModel, gamma: float) -> OptimalityModel:
    """The model in which each step is survived with probability gamma.

    A walk that dies goes to one more state, the last, which it never leaves, and where every step
    is optimal: its reward is 0. Actions there are equally likely.

    Args:
        model: with a dense P.
        gamma: probability of surviving a step, 0 to 1.

    Source: eq-survival.
    """
    require_unit(gamma=gamma)
    mdp, dead = model.mdp, model.mdp.n_states
    P = np.zeros((dead + 1, mdp.n_actions, dead + 1))
    P[:dead, :, :dead], P[:dead, :, dead], P[dead, :, dead] = gamma * mdp.P, 1 - gamma, 1.0
    R = np.vstack([mdp.R, np.zeros(mdp.n_actions)])
    prior = np.vstack([model.prior, np.full(mdp.n_actions, 1 / mdp.n_actions)])
    return replace(model, mdp=MDP(P, R, mdp.gamma, np.append(mdp.p0, 0.0)), prior=prior)
