"""The four kinds of check: what passes, what fails and what the failure says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from rl_helpers import checks
from rl_helpers.checks import CheckFailed, check, check_bound, check_learned, check_statistical

pytestmark = pytest.mark.usefixtures("untyped")  # lists, numbers and wrong shapes on purpose

Call = Callable[[], None]
SIDE = np.array([[1.0, 2.0], [3.0, 4.0]])
WRONG = {"twice": 2 * SIDE}
BELOW = np.linspace(0, 1, 20)
# Mean 0.5; variance 0.25 * 100 / 99, so a standard error of 0.5 / sqrt(99) = 0.05025.
SAMPLES = np.tile([0.0, 1.0], 50)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


# ---- Passing, and the line that says so ---------------------------------------------------------


def test_exact_passes(capsys: pytest.CaptureFixture[str]) -> None:
    check("eq-a", SIDE, SIDE + 5e-11, mistakes={"off": SIDE + 0.3141, "twice": 2 * SIDE})
    assert line(capsys) == "✓ eq-a: exact to 1e-10. Rejected: off (off by 0.31); twice (off by 4)"


def test_exact_takes_lists_numbers_and_tensors_with_gradients() -> None:
    tensor = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    check("eq-a", [1, 2], tensor, mistakes={"minus": [-1, -2]})
    check("eq-a", 1.5, np.float64(1.5), tol=1e-8, mistakes={"zero": 0})


def test_statistical_passes(capsys: pytest.CaptureFixture[str]) -> None:
    # 0.7 is 0.2 / 0.05025 = 3.98 standard errors away, 0.8 is 5.97
    check_statistical("eq-a", SAMPLES, 0.7, mistakes={"more": 0.8})
    said = "within 4 standard errors, 100 samples. Rejected: more (off by 6 standard errors)"
    assert line(capsys) == f"✓ eq-a: {said}"


def test_statistical_takes_wrong_samples_too() -> None:
    # both columns' means are 0.5; as samples, ones and zeros lie 0.5 away without any spread
    both = np.stack([SAMPLES, SAMPLES], axis=1)
    mistakes = {
        "other samples": both + 0.5,
        "other value": [0.5, 0.0],
        "constant": np.ones((30, 2)),
    }
    check_statistical("eq-a", both, [0.5, 0.5], mistakes=mistakes)


def test_bound_passes(capsys: pytest.CaptureFixture[str]) -> None:
    # BELOW <= 1.5 BELOW everywhere; BELOW > BELOW / 2 in all but the first, which is 0
    check_bound("eq-a", BELOW, 1.5 * BELOW, mistakes={"half": BELOW / 2})
    said = "holds in all 20 instances. Rejected: half (broken by 19 of 20)"
    assert line(capsys) == f"✓ eq-a: {said}"


@pytest.mark.parametrize(
    ("factor", "tested"), [(1.99, True), (2.01, False)], ids=["tight", "slack"]
)
def test_a_bound_with_room_for_half_says_so(
    factor: float, tested: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    check_bound("eq-a", BELOW, factor * BELOW, mistakes={"half": BELOW / 2})
    assert ("20 instances, constant not tested." in line(capsys)) is not tested


def test_half_of_a_bound_of_either_sign_means_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    check_bound("eq-a", BELOW - 3, BELOW - 1, mistakes={"lower": BELOW - 4})
    assert "not tested" not in line(capsys)


def test_learned_passes(capsys: pytest.CaptureFixture[str]) -> None:
    check_learned("eq-a", 0.05, 0.1, mistakes={"untrained": 2.34})
    assert line(capsys) == "✓ eq-a: learned to distance 0.1. Rejected: untrained (ends 2.3 away)"


# ---- Failing, and what the failure says ---------------------------------------------------------


def worse(by: float) -> np.ndarray:
    other = SIDE.copy()
    other[1, 0] += by
    return other


FAILURES: list[tuple[Call, str]] = [
    (
        lambda: check("eq-a", SIDE, worse(0.25), mistakes=WRONG),
        "eq-a: the two sides differ. Worst at [1, 0]: lhs 3, rhs 3.25, difference 0.25, "
        "tolerance 1e-10",
    ),
    (
        lambda: check("eq-a", 1.0, 1.5, mistakes={"two": 2.0}),
        "Worst at the only element: lhs 1, rhs 1.5, difference 0.5",
    ),
    (
        lambda: check("eq-a", SIDE, SIDE, mistakes={"the same": SIDE}),
        "eq-a: the mistake 'the same' is not rejected: it is off by 0, "
        "and must be off by more than 1e-09 (10 tolerances)",
    ),
    (
        lambda: check("eq-a", SIDE, SIDE, mistakes={**WRONG, "a near miss": SIDE + 9e-10}),
        "the mistake 'a near miss' is not rejected: it is off by 9e-10",
    ),
    (
        # 0.5 / 0.05025 = 9.95
        lambda: check_statistical("eq-a", SAMPLES, 1.0, mistakes={"zero": 0.0}),
        "eq-a: the sample mean is not the expected value. Worst at the only element: "
        "mean 0.5, expected 1, difference 9.95 standard errors, tolerance 4",
    ),
    (
        lambda: check_statistical("eq-a", np.ones((30, 2)), [1.0, 2.0], mistakes={"x": [0, 0]}),
        "Worst at [1]: mean 1, expected 2, difference inf standard errors",
    ),
    (
        # 0.1 / 0.05025 = 1.99
        lambda: check_statistical("eq-a", SAMPLES, 0.5, mistakes={"near": 0.6}),
        "eq-a: the mistake 'near' is not rejected: it is off by 1.99 standard errors, "
        "and must be off by more than 4",
    ),
    (
        # of 0, 1/19, …, 1 the last two exceed 0.9: 18/19 = 0.947 and 1
        lambda: check_bound("eq-a", BELOW, np.full(20, 0.9), mistakes={"half": BELOW / 2}),
        "eq-a: the inequality is broken in 2 of 20 instances. Worst at [19]: lower 1, upper 0.9, "
        "difference 0.1, tolerance 1e-12",
    ),
    (
        lambda: check_bound("eq-a", BELOW, BELOW + 2, mistakes={"loose": BELOW + 1}),
        "eq-a: the mistake 'loose' is not rejected: all 20 instances obey it",
    ),
    (
        lambda: check_learned("eq-a", 0.3, 0.1, mistakes={"untrained": 1.0}),
        "eq-a: learned to a distance of 0.3 from the target, difference 0.2 above the tolerance 0.1",
    ),
    (
        lambda: check_learned("eq-a", 0.05, 0.1, mistakes={"untrained": 0.1}),
        "eq-a: the mistake 'untrained' is not rejected: its distance 0.1 is within 0.1",
    ),
]


@pytest.mark.parametrize(("call", "message"), FAILURES)
def test_failure_messages(call: Call, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckFailed) as caught:
        call()
    assert message in str(caught.value)
    assert line(capsys) == "", "a check that fails must not say that it passed"


# ---- One bad element among many -----------------------------------------------------------------

# In a mean over elements each of these would be far within what is allowed.
MANY = np.arange(1.0, 201.0).reshape(10, 20)
PLACES = [(0, 0), (4, 13), (9, 19)]  # the first, one inside, the last
ROWS = np.arange(1.0, 201.0)
# Two hundred elements of mean 0.5 and standard error 0.05025, all from the same hundred samples.
WIDE = np.tile(SAMPLES[:, None, None], (1, 10, 20))


def but_for_one(array: np.ndarray, at: Any, by: float) -> np.ndarray:
    other = array.astype(float)
    other[at] += by
    return other


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("by", [3e-10, -3e-10])
def test_one_wrong_element_fails_an_exact_check(at: tuple[int, int], by: float) -> None:
    wrong = but_for_one(MANY, at, by)  # the mean difference is 1.5e-12
    for lhs, rhs in [(MANY, wrong), (wrong, MANY)]:
        with pytest.raises(
            CheckFailed, match=rf"Worst at \[{at[0]}, {at[1]}\]: .* difference 3e-10,"
        ):
            check("eq-a", lhs, rhs, tol=1e-10, mistakes={"twice": 2 * MANY})


@pytest.mark.parametrize("at", PLACES)
def test_one_wrong_element_rejects_an_exact_mistake(
    at: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    check("eq-a", MANY, MANY, mistakes={"one": but_for_one(MANY, at, 1.1e-9)})  # mean 5.5e-12
    assert line(capsys).endswith("Rejected: one (off by 1.1e-09)")


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("by", [0.21, -0.21])
def test_one_wrong_element_fails_a_statistical_check(at: tuple[int, int], by: float) -> None:
    # 0.21 is 4.18 standard errors; on average the elements lie 0.02 of them away
    expected = but_for_one(np.full((10, 20), 0.5), at, by)
    with pytest.raises(
        CheckFailed, match=rf"Worst at \[{at[0]}, {at[1]}\]: .* difference 4\.18 st"
    ):
        check_statistical("eq-a", WIDE, expected, mistakes={"one": np.ones((10, 20))})
    # and the samples of one element, all a little higher
    with pytest.raises(
        CheckFailed, match=rf"Worst at \[{at[0]}, {at[1]}\]: .* difference 4\.18 st"
    ):
        check_statistical(
            "eq-a", but_for_one(WIDE, (slice(None), *at), by), np.full((10, 20), 0.5),
            mistakes={"one": np.ones((10, 20))},
        )  # fmt: skip


@pytest.mark.parametrize("at", PLACES)
def test_one_wrong_element_rejects_a_statistical_mistake(at: tuple[int, int]) -> None:
    half = np.full((10, 20), 0.5)
    mistakes = {
        "value": but_for_one(half, at, 0.21),
        "samples": but_for_one(WIDE, (slice(None), *at), -0.21),
    }
    check_statistical("eq-a", WIDE, half, mistakes=mistakes)


def test_the_standard_error_is_of_each_element_by_itself() -> None:
    """A quiet element among noisy ones is held to its own spread, and a noisy one to its own."""
    drawn = WIDE.copy()
    drawn[:, 4, 13] = 0.5 + (SAMPLES - 0.5) / 100  # standard error 0.0005
    expected = but_for_one(np.full((10, 20), 0.5), (0, 0), 0.15)  # 3 standard errors: allowed
    check_statistical("eq-a", drawn, expected, mistakes={"one": np.ones((10, 20))})
    expected[4, 13] += 0.003
    with pytest.raises(CheckFailed, match=r"Worst at \[4, 13\]: .* difference 5\.97 standard err"):
        check_statistical("eq-a", drawn, expected, mistakes={"one": np.ones((10, 20))})


@pytest.mark.parametrize("at", [0, 77, 199])
def test_one_instance_breaks_a_bound(at: int) -> None:
    upper = but_for_one(ROWS + 1, at, -1 - 1e-9)  # below by 1e-9; on average above by 1
    with pytest.raises(CheckFailed, match=rf"broken in 1 of 200 instances. Worst at \[{at}\]: "):
        check_bound("eq-a", ROWS, upper, mistakes={"half": ROWS / 2})


@pytest.mark.parametrize("at", [0, 77, 199])
def test_one_instance_rejects_a_tightened_bound(
    at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    check_bound("eq-a", ROWS, ROWS + 1, mistakes={"one": but_for_one(ROWS + 1, at, -1.001)})
    assert line(capsys).endswith("Rejected: one (broken by 1 of 200)")


ONE_BAD_MISTAKE: list[tuple[Callable[..., None], Any, Any, Any, Any]] = [
    (check, MANY, MANY, MANY + 1, MANY),
    (check_statistical, SAMPLES, 0.5, 1.0, 0.6),
    (check_statistical, SAMPLES, 0.5, SAMPLES + 1, SAMPLES + 0.1),
    (check_bound, ROWS, ROWS + 1, ROWS - 1, ROWS + 0.5),
    (check_learned, 0.05, 0.1, 2.0, 0.09),
]


@pytest.mark.parametrize(("kind", "one", "other", "rejected", "kept"), ONE_BAD_MISTAKE)
@pytest.mark.parametrize("place", range(3))
def test_one_mistake_among_many_that_is_not_rejected(
    kind: Callable[..., None], one: Any, other: Any, rejected: Any, kept: Any, place: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    values = [rejected] * 3
    values[place] = kept
    mistakes = dict(zip(("first", "second", "third"), values, strict=True))
    name = list(mistakes)[place]
    with pytest.raises(CheckFailed, match=f"the mistake '{name}' is not rejected"):
        kind("eq-a", one, other, mistakes=mistakes)
    assert line(capsys) == ""
    kind("eq-a", one, other, mistakes={**mistakes, name: rejected})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("kind", [check, check_statistical, check_bound])
def test_one_number_among_many_that_is_none(
    kind: Callable[..., None], place: int, bad: float
) -> None:
    good = [WIDE, WIDE[0] * 0 + 0.5] if kind is check_statistical else [ROWS, ROWS]
    sides = [*good, good[1] - 1]
    sides[place] = sides[place].copy()
    sides[place].flat[77] = bad
    with pytest.raises(ValueError, match="of eq-a holds 1 values that are NaN or infinite"):
        kind("eq-a", *sides[:2], mistakes={"right": good[1] - 1, "wrong": sides[2]})


@pytest.mark.parametrize(("kind", "n"), [(check, 10), (check_bound, 200)])
def test_one_mistake_among_many_of_another_shape(kind: Callable[..., None], n: int) -> None:
    side = MANY if kind is check else ROWS
    mistakes = {"first": side - 1, "second": side[:-1] - 1, "third": side - 1}
    with pytest.raises(ValueError, match=rf"mistake 'second' of eq-a has shape \({n - 1},"):
        kind("eq-a", side, side, mistakes=mistakes)


# ---- Bad input ----------------------------------------------------------------------------------

BAD_INPUT: list[tuple[Call, str]] = [
    # exact
    (lambda: check("eq-a", SIDE, SIDE, tol=1e-7, mistakes=WRONG),
     "tol of eq-a is 1e-07; an exact check allows 0 < tol <= 1e-08"),
    (lambda: check("eq-a", SIDE, SIDE, tol=0, mistakes=WRONG), "tol of eq-a is 0"),
    (lambda: check("eq-a", SIDE, SIDE, mistakes={}),
     "eq-a states no mistakes; a check must name at least one mistake"),
    (lambda: check("eq-a", SIDE, SIDE[0], mistakes=WRONG),
     "rhs of eq-a has shape (2,); lhs has (2, 2)"),
    (lambda: check("eq-a", SIDE, SIDE, mistakes={"row": SIDE[0]}),
     "of eq-a has shape (2,); lhs has (2, 2)"),
    (lambda: check("eq-a", SIDE.astype(np.float32), SIDE, mistakes=WRONG),
     "lhs of eq-a has dtype float32; an exact check needs float64"),
    (lambda: check("eq-a", SIDE, torch.ones(2, 2), mistakes=WRONG),
     "rhs of eq-a has dtype torch.float32; an exact check needs float64"),
    (lambda: check("eq-a", [], [], mistakes={"none": []}), "lhs of eq-a is empty"),
    (lambda: check("eq-a", SIDE, SIDE * np.nan, mistakes=WRONG),
     "rhs of eq-a holds 4 values that are NaN or infinite"),
    (lambda: check("eq-a", SIDE, SIDE, mistakes={"infinite": SIDE * np.inf}),
     "mistake 'infinite' of eq-a holds 4 values"),
    (lambda: check("eq-a", SIDE > 0, SIDE, mistakes=WRONG), "lhs of eq-a has dtype bool"),
    (lambda: check("eq-a", SIDE * 1j, SIDE, mistakes=WRONG),
     "lhs of eq-a has dtype complex128; real numbers are needed"),
    # statistical
    (lambda: check_statistical("eq-a", SAMPLES, 0.5, z=5, mistakes={"one": 1.0}),
     "z of eq-a is 5; allowed is 0 < z <= 4"),
    (lambda: check_statistical("eq-a", SAMPLES[:29], 0.5, mistakes={"one": 1.0}),
     "samples must be [n, *expected.shape] with n >= 30"),
    (lambda: check_statistical("eq-a", SAMPLES, [0.5, 0.5], mistakes={"one": 1.0}),
     "samples have shape (100,), expected (2,)"),
    (lambda: check_statistical("eq-a", SAMPLES, np.nan, mistakes={"one": 1.0}),
     "expected of eq-a holds 1 values that are NaN or infinite"),
    (lambda: check_statistical("eq-a", SAMPLES, 0.5, mistakes={}), "states no mistakes"),
    # bound
    (lambda: check_bound("eq-a", BELOW, BELOW, tol=-1, mistakes={"half": BELOW / 2}),
     "tol of eq-a is -1; a bound allows 0 <= tol <= 1e-08"),
    (lambda: check_bound("eq-a", BELOW[:19], BELOW[:19], mistakes={"half": BELOW / 2}),
     "lower of eq-a has shape (19,); a bound is checked over [n], n >= 20 instances"),
    (lambda: check_bound("eq-a", BELOW, BELOW[:19], mistakes={"half": BELOW / 2}),
     "upper of eq-a has shape (19,); lower has (20,)"),
    (lambda: check_bound("eq-a", BELOW, BELOW, mistakes={}), "states no mistakes"),
    # learned
    (lambda: check_learned("eq-a", 0.1, 0.0, mistakes={"none": 1.0}),
     "threshold of eq-a is 0.0; it must be positive and finite"),
    (lambda: check_learned("eq-a", np.nan, 0.1, mistakes={"none": 1.0}),
     "distance of eq-a is nan; a distance is finite and at least 0"),
    (lambda: check_learned("eq-a", 0.1, 0.1, mistakes={"none": -1.0}), "mistake 'none' of eq-a is -1.0"),
    (lambda: check_learned("eq-a", 0.1, 0.1, mistakes={}), "states no mistakes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input(call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.31415, "0.31"), (2.0, "2"), (12.7, "13"), (1234.0, "1,200"), (2.5e-12, "2.5e-12"),
     (3.3e7, "3.3e+07"), (np.inf, "inf"), (0.0, "0"), (99.96, "100")],
)  # fmt: skip
def test_two_digits(number: float, text: str) -> None:
    assert checks._two_digits(number) == text


# ---- In a notebook ------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """An IPython that keeps no history and knows no user."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(checks, "_times_checked", checks.Counter())
    config = Config({"HistoryManager": {"enabled": False}})
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def displayed(shell: InteractiveShell, code: str) -> list[Any]:
    with capture_output() as captured:
        result = shell.run_cell("from rl_helpers.checks import *\n" + code)
    result.raise_error()
    return captured.outputs


def test_record_in_a_notebook(shell: InteractiveShell) -> None:
    once = 'check("eq-a", [1.0], [1.0], mistakes={"a < b": [1.31415]})\n'
    first, second = displayed(shell, once + once)
    assert first.metadata["rl_check"] == {
        "label": "eq-a",
        "anchor": "check-eq-a",
        "kind": "exact",
        "tolerance": "1e-10",
        "mistakes": {"a < b": "off by 0.31"},
        "room": 3.1e8,
    }
    assert first.data["text/plain"] == "✓ eq-a: exact to 1e-10. Rejected: a < b (off by 0.31)"
    markup = first.data["text/html"]
    assert markup.startswith('<div class="rl-check" id="check-eq-a">')
    assert '<a href="#equation-eq-a">eq-a</a>' in markup
    assert "a &lt; b (off by 0.31)" in markup
    assert second.metadata["rl_check"]["anchor"] == "check-eq-a-2", "each check has its own anchor"
    assert 'id="check-eq-a-2"' in second.data["text/html"]


@pytest.mark.parametrize(
    ("code", "kind", "tolerance"),
    [
        ("check_statistical('eq-b', [0., 1.] * 50, 0.5, mistakes={'m': 1.})", "statistical",
         "4 standard errors, 100 samples"),
        ("check_bound('eq-b', [1.] * 20, [1.5] * 20, mistakes={'m': [0.] * 20})", "bound",
         "20 instances"),
        ("check_learned('eq-b', 0.1, 0.2, mistakes={'m': 1.})", "learned", "distance 0.2"),
    ],
)  # fmt: skip
def test_records_of_the_other_kinds(
    shell: InteractiveShell, code: str, kind: str, tolerance: str
) -> None:
    (output,) = displayed(shell, code)
    record = output.metadata["rl_check"]
    assert (record["kind"], record["tolerance"]) == (kind, tolerance)


def test_a_failing_check_displays_nothing(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        result = shell.run_cell(
            "from rl_helpers.checks import check\ncheck('eq-a', 1., 2., mistakes={'m': 3.})"
        )
    assert isinstance(result.error_in_exec, CheckFailed)
    assert captured.outputs == []


def rooms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rooms of the checks that follow."""
    left: list[float] = []
    monkeypatch.setattr(checks, "leave", lambda *_, rl_check: left.append(rl_check["room"]))
    return left


def test_room_is_the_smaller_of_two_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rooms(monkeypatch)
    check("eq-a", 1.0, 1.0, mistakes={"far": 2.0, "near": 1.0 + 5e-9})
    check("eq-a", 1.0, 1.0 + 5e-11, mistakes={"far": 2.0})
    ones = np.tile([0.9, 1.1], 50)  # a standard error of about 0.01
    check_statistical("eq-a", ones, 1.0, mistakes={"far": 2.0, "near": 1.08})
    check_bound(
        "eq-a",
        np.arange(20.0),
        np.arange(20.0) + 1,
        mistakes={"many": np.arange(20.0) - 1, "three": np.minimum(np.arange(20.0), 16)},
    )
    check_learned("eq-a", 0.5, 1.0, mistakes={"untrained": 9.0})
    check_learned("eq-a", 0.0, 1.0, mistakes={"untrained": 9.0, "near": 3.0})
    assert found == pytest.approx([5, 2, 2, 3, 2, 3], rel=0.05)
