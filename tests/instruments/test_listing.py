"""`show` prints the code that runs."""

from __future__ import annotations

import pytest

from rl_helpers import listing
from rl_helpers.mdp.gridworld import GridWorld
from rl_helpers.mdp.planning import greedy
from rl_helpers.mdp.returns import discounted_returns


def test_show() -> None:
    shown = listing.show(discounted_returns, greedy)._repr_mimebundle_()
    plain, markdown = shown["text/plain"], shown["text/markdown"]
    assert plain.startswith("def discounted_returns(")
    assert "\n\ndef greedy(" in plain
    assert markdown == f"```python\n{plain}\n```"
    method = listing.show(GridWorld.state)._repr_mimebundle_()["text/plain"]
    assert method.startswith("def state(self"), "indented as if it stood alone"
    with pytest.raises(ValueError, match=r"show\(\) got no helpers; name at least one function"):
        listing.show()
