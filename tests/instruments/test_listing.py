"""`show` prints the code that runs: what computes it first, and the whole source in a fold."""

from __future__ import annotations

import html
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from rl_helpers.listing import WHOLE, shortened, show
from rl_helpers.mdp.gridworld import GridWorld
from rl_helpers.mdp.planning import greedy
from rl_helpers.mdp.process import MDP, check_policy
from rl_helpers.mdp.returns import discounted_returns
from rl_helpers.policy_gradients.a2c import train_a2c
from rl_helpers.policy_gradients.ppo import PPOConfig, Samples, ppo_losses, train_ppo
from rl_helpers.policy_gradients.reinforce import train_reinforce

BLOCK = re.compile(r'<div class="highlight"><pre>(.*?)\n</pre></div>', re.DOTALL)


def source(helper: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(helper)).rstrip()


def page(*helpers: Callable[..., Any]) -> str:
    return show(*helpers)._repr_mimebundle_()["text/html"]


def blocks(*helpers: Callable[..., Any]) -> list[str]:
    """The text of each highlighted block."""
    return [html.unescape(re.sub("<[^>]*>", "", found)) for found in BLOCK.findall(page(*helpers))]


# ---- What the page gets -------------------------------------------------------------------------

RETURNS = '''\
def discounted_returns(
    rewards: Float[Array, "*batch T"],
    gamma: float,
) -> Float[Array, "*batch T"]:
    """Returns G_t = r_t + gamma G_{t+1}, with G_T = 0, by one scan from the end."""
    returns = floats_like("rewards", rewards)
    following = 0.0
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + gamma * following
        returns[..., t] = following
    return returns'''


def test_the_listing_stands_above_a_fold_with_the_whole_source() -> None:
    shown = show(discounted_returns)._repr_mimebundle_()
    assert set(shown) == {"text/html", "text/plain"}
    assert shown["text/plain"] == RETURNS
    assert blocks(discounted_returns) == [RETURNS, source(discounted_returns)]
    frame = BLOCK.sub("…", shown["text/html"]).replace("\n", "")
    assert re.fullmatch(f"…<details><summary[^>]*>{WHOLE}</summary>…</details>", frame)


def test_listing_and_whole_source_are_highlighted() -> None:
    for block in BLOCK.findall(page(discounted_returns)):
        assert '<span class="k">def</span>' in block
        assert '<span class="nf">discounted_returns</span>' in block


def test_several_helpers_share_one_listing_and_one_fold() -> None:
    listing, whole = blocks(discounted_returns, greedy)
    assert listing == RETURNS + "\n\n" + shortened(source(greedy))
    assert whole == source(discounted_returns) + "\n\n" + source(greedy)


def test_nothing_is_folded_where_nothing_is_left_out() -> None:
    assert blocks(twice) == [source(twice)]
    assert "<details" not in page(twice)


def twice(x: int) -> int:
    """Two times x."""
    return 2 * x


def test_show_needs_a_helper() -> None:
    with pytest.raises(ValueError, match=r"show\(\) got no helpers; name at least one function"):
        show()


# ---- What is left out ---------------------------------------------------------------------------


def cut(code: str) -> str:
    return shortened(textwrap.dedent(code).strip("\n")) + "\n"


def test_argument_checks_go_and_comments_stay() -> None:
    assert cut(
        '''
        def f(x, y, steps):
            r"""First line, with \\alpha.

            Args:
                x: a number.
            """
            require_unit(x=x)  # as any probability
            # All of them must be there.
            require(
                len(y) > 1,
                "y",
                y,
            )
            validation.require_finite(y=y)
            check_policy(x, y)
            if steps < 1:
                raise ValueError("steps")
            if y is not None:
                require_same_shape(x=x, y=y)
            for name in ("x", "y"):
                if not name:
                    raise TypeError(name)

            # What is summed.
            total = x  # a running sum
            for step in range(steps):
                require_unit(x=x)
                if total > 1:
                    raise ValueError("not at the top level")
                total += y[step]

            return total
        '''
    ) == textwrap.dedent(
        '''\
        def f(x, y, steps):
            r"""First line, with \\alpha."""

            # What is summed.
            total = x  # a running sum
            for step in range(steps):
                require_unit(x=x)
                if total > 1:
                    raise ValueError("not at the top level")
                total += y[step]

            return total
        '''
    )


@pytest.mark.parametrize(
    "statement",
    [
        "if off > tol: raise RuntimeError('too far')",  # says that it failed, not what it got
        "if x < 0: raise ValueError('x')\n    else: x = 1",
        "if x < 0:\n        x = 0\n        raise ValueError('x')",
        "if x < 0: x = 0",
        "required(x)",
        "check(x)",
        "x = require_unit(x=x)",
        "raise ValueError('always')",
        "with lock: require_unit(x=x)",
        "assert x > 0",
        "require = x",
        "'''A text.'''",
    ],
)
def test_nothing_else_is_left_out(statement: str) -> None:
    code = f'def f(x):\n    """Doc."""\n    y = x\n    {statement}\n    return y'
    assert shortened(code) == code


def test_what_only_a_check_reads_goes_with_it() -> None:
    assert cut(
        """
        def f(x, n):
            rows, _ = x.shape
            half = n // 2
            kept = n + 1
            self.noted = n
            allowed = f"at most {half}"
            require(rows <= half, "x", x, allowed)
            unused = 3
            return kept
        """
    ) == textwrap.dedent(
        """\
        def f(x, n):
            kept = n + 1
            self.noted = n
            unused = 3
            return kept
        """
    )
    shared = "def f(x):\n    n = len(x)\n    require(n > 1, 'x', x, 'n')\n    return n"
    assert shortened(shared) == "def f(x):\n    n = len(x)\n    return n"


def test_a_function_that_only_checks_is_shown_whole() -> None:
    assert blocks(check_policy) == [source(check_policy)]


# ---- Methods and classes ------------------------------------------------------------------------


def test_a_method_is_indented_as_if_it_stood_alone() -> None:
    listing, whole = blocks(GridWorld.state)
    assert whole == source(GridWorld.state)
    assert listing == (
        "def state(self, row: int, column: int) -> int:\n"
        '    """Number of the state at a row and column, counted from 0 at the top left."""\n'
        "    return self.cells.index((row, column))"
    )


def test_a_configuration_is_its_fields() -> None:
    listing = blocks(PPOConfig)[0].splitlines()
    assert listing[:5] == [
        "@dataclass(frozen=True)",
        "class PPOConfig:",
        '    """Settings of PPO; each implementation detail can be switched off."""',
        "",
        "    total_steps: int = 50_000",
    ]
    assert listing[-1] == "    stop_at: float | None = None", "__post_init__ only checks"
    assert len(listing) == 4 + len(PPOConfig.__dataclass_fields__)


def test_a_named_tuple_is_its_fields() -> None:
    listing = blocks(Samples)[0].splitlines()
    assert listing[0] == "class Samples(NamedTuple):"
    assert [line.partition(":")[0].strip() for line in listing[3:]] == list(Samples._fields)


def test_a_class_keeps_what_its_methods_do() -> None:
    listing = blocks(MDP)[0]
    for kept in (
        "    gamma: float\n",
        "# uniform by default",
        "    def __post_init__(self) -> None:\n        rewards = ",
        "            object.__setattr__(self, name, value)\n\n    @property\n    def n_states(",
        '        """Number of states S."""\n',
    ):
        assert kept in listing
    for gone in ("require", "ValueError", "Args:"):
        assert gone not in listing


def test_a_method_that_only_checks_goes_with_its_decorators_and_comments() -> None:
    assert cut(
        '''
        class A:
            """A."""

            x: int

            # Called by others.
            @staticmethod
            @cache
            def check(x):
                """Checks."""
                require_unit(x=x)

            def y(self):
                """Twice x.

                Returns:
                    2 x.
                """
                require_unit(x=self.x)
                return 2 * self.x
        '''
    ) == textwrap.dedent(
        '''\
        class A:
            """A."""

            x: int

            def y(self):
                """Twice x."""
                return 2 * self.x
        '''
    )


# ---- The book's own -----------------------------------------------------------------------------


@pytest.mark.parametrize("train", [train_ppo, train_a2c, train_reinforce, ppo_losses])
def test_a_loop_is_shown_in_full(train: Callable[..., Any]) -> None:
    """These have no argument checks: after the docstring every line is there."""
    listing, whole = blocks(train)
    start = listing.index('"""\n') + len('"""\n')
    assert listing[start:]
    assert whole.endswith('    """\n' + listing[start:])
