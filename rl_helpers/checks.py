"""`check` and its siblings: execute both sides of a labelled equation, and reject stated mistakes.

Every labelled equation of the book is checked in the section that displays it:

- `check`: linear algebra or enumeration in float64; both sides agree to a tolerance of 1e-8 or
  less.
- `check_statistical`: the mean of independent samples lies within 4 standard errors of the exact
  value.
- `check_bound`: an inequality holds for every instance, and a tightened version is broken by some.
- `check_learned`: a trained quantity comes within a stated distance of an exactly computed target.

Each takes `mistakes`, named wrong versions of the equation which the *same* test must reject. A
check that fails, or that cannot tell a mistake from the truth, raises `CheckFailed`; so the
notebook stops and the book is not built. A check that passes displays one line and leaves a record
in the output's metadata, from which the build makes the ledger and the mark beside the equation.
"""

import html
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_helpers.records import leave
from rl_helpers.validation import finite_floats

Array = NDArray[np.float64]
Values = Any  # a number, a sequence, a NumPy array or a torch tensor

EXACT_TOLERANCE = 1e-8  # the loosest tolerance that still counts as exact
MISTAKE_MARGIN = 10.0  # a mistake must be off by this many tolerances: a near miss proves nothing

_times_checked: Counter[str] = Counter()  # so that a second check of a label gets its own anchor


class CheckFailed(AssertionError):
    """Both sides of an equation disagree, or a mistake was not told from the truth."""


def check(
    label: str,
    lhs: Values,
    rhs: Values,
    *,
    tol: float = 1e-10,
    mistakes: Mapping[str, Values],
) -> None:
    """Check that two sides of an equation, computed in two independent ways, are equal.

    Args:
        label: label of the equation in this section, such as `"eq-bellman-v"`.
        lhs: left-hand side, float64, any shape.
        rhs: right-hand side, float64, the same shape.
        tol: largest absolute difference allowed, at most 1e-8.
        mistakes: for each plausible mistake, its name and the wrong value (same shape) of either
            side.

    Raises:
        CheckFailed: the sides differ by more than `tol`, or a mistake lies within 10 `tol` of the
            truth.
        ValueError: `tol` outside (0, 1e-8], no mistakes, shapes that differ, float32, empty or not
            finite.
    """
    if not 0 < tol <= EXACT_TOLERANCE:
        raise ValueError(
            f"tol of {label} is {tol:g}; an exact check allows 0 < tol <= {EXACT_TOLERANCE:g}"
        )
    left, right = _exact("lhs", label, lhs), _exact("rhs", label, rhs)
    wrong = {
        name: _exact(f"mistake '{name}'", label, value)
        for name, value in _named(label, mistakes).items()
    }
    _same_shape(label, "lhs", left, {"rhs": right}, wrong)
    gap = np.abs(left - right)
    if gap.max() > tol:
        at = np.unravel_index(int(gap.argmax()), gap.shape)
        raise CheckFailed(
            f"{label}: the two sides differ. Worst at {_index(at)}: "
            f"lhs {left[at]:.12g}, rhs {right[at]:.12g}, difference {gap[at]:.3g}, tolerance {tol:g}"
        )
    off = {name: float(np.abs(left - value).max()) for name, value in wrong.items()}
    for name, distance in off.items():
        if distance <= MISTAKE_MARGIN * tol:
            raise CheckFailed(
                f"{label}: the mistake '{name}' is not rejected: it is off by {distance:.3g}, "
                f"and must be off by more than {MISTAKE_MARGIN * tol:g} ({MISTAKE_MARGIN:g} tolerances)"
            )
    _report(
        label,
        "exact",
        f"{tol:g}",
        {name: f"off by {_two_digits(x)}" for name, x in off.items()},
        room=min(_ratio(tol, float(gap.max())), min(off.values()) / (MISTAKE_MARGIN * tol)),
    )


def check_statistical(
    label: str,
    samples: Values,
    expected: Values,
    *,
    z: float = 4.0,
    mistakes: Mapping[str, Values],
) -> None:
    """Check that the mean of independent samples is the exact value, to within `z` standard errors.

    Args:
        label: label of the equation in this section.
        samples: independent samples, shape [n, ...], n >= 30.
        expected: the exact value, shape [...].
        z: allowed distance in standard errors of the mean, at most 4, in every element.
        mistakes: for each plausible mistake either a wrong exact value, shape [...], or wrong
            samples, shape [m, ...]; some element must lie further than `z` standard errors away.

    Raises:
        CheckFailed: the mean is too far from `expected`, or a mistake is not.
        ValueError: z outside (0, 4], fewer than 30 samples, no mistakes, shapes that differ, not
            finite.
    """
    if not 0 < z <= 4:
        raise ValueError(f"z of {label} is {z:g}; allowed is 0 < z <= 4")
    drawn, exact = _finite("samples", label, samples), _finite("expected", label, expected)
    distance = _standard_errors(label, "samples", drawn, exact)
    if distance.max() > z:
        at = np.unravel_index(int(distance.argmax()), distance.shape)
        raise CheckFailed(
            f"{label}: the sample mean is not the expected value. Worst at {_index(at)}: "
            f"mean {drawn.mean(axis=0)[at]:.6g}, expected {exact[at]:.6g}, "
            f"difference {distance[at]:.3g} standard errors, tolerance {z:g}"
        )
    off = {}
    for name, value in _named(label, mistakes).items():
        wrong = _finite(f"mistake '{name}'", label, value)
        if wrong.ndim == drawn.ndim:
            off[name] = float(_standard_errors(label, f"mistake '{name}'", wrong, exact).max())
        else:
            off[name] = float(_standard_errors(label, f"mistake '{name}'", drawn, wrong).max())
        if off[name] <= z:
            raise CheckFailed(
                f"{label}: the mistake '{name}' is not rejected: it is off by {off[name]:.3g} standard "
                f"errors, and must be off by more than {z:g}"
            )
    _report(
        label,
        "statistical",
        f"{z:g} standard errors, {len(drawn):,} samples",
        {name: f"off by {_two_digits(x)} standard errors" for name, x in off.items()},
        room=min(_ratio(z, float(distance.max())), min(off.values()) / z),
    )


def check_bound(
    label: str,
    lower: Values,
    upper: Values,
    *,
    tol: float = 1e-12,
    mistakes: Mapping[str, Values],
) -> None:
    """Check an inequality `lower <= upper` over many instances, and that a tightened one is broken.

    Where `upper` is never negative and half of it would pass as well, the line and the ledger add
    that the bound's constant is not tested.

    Args:
        label: label of the inequality in this section.
        lower: the smaller side for each instance, shape [n], n >= 20.
        upper: the larger side for each instance, shape [n].
        tol: slack for rounding, at most 1e-8.
        mistakes: for each tightened version its larger side, shape [n]; some instance must break
            it.

    Raises:
        CheckFailed: an instance breaks the inequality, or none breaks a tightened version.
        ValueError: tol outside [0, 1e-8], fewer than 20 instances, no mistakes, shapes that
            differ, not finite.
    """
    if not 0 <= tol <= EXACT_TOLERANCE:
        raise ValueError(
            f"tol of {label} is {tol:g}; a bound allows 0 <= tol <= {EXACT_TOLERANCE:g}"
        )
    small, large = _finite("lower", label, lower), _finite("upper", label, upper)
    tightened = {
        name: _finite(f"mistake '{name}'", label, v) for name, v in _named(label, mistakes).items()
    }
    if small.ndim != 1 or len(small) < 20:
        raise ValueError(
            f"lower of {label} has shape {small.shape}; a bound is checked over [n], n >= 20 instances"
        )
    _same_shape(label, "lower", small, {"upper": large}, tightened)
    excess = small - large
    if excess.max() > tol:
        at = int(excess.argmax())
        raise CheckFailed(
            f"{label}: the inequality is broken in {(excess > tol).sum()} of {len(small)} instances. "
            f"Worst at [{at}]: lower {small[at]:.12g}, upper {large[at]:.12g}, "
            f"difference {excess[at]:.3g}, tolerance {tol:g}"
        )
    broken = {
        name: int((small - value > MISTAKE_MARGIN * EXACT_TOLERANCE).sum())
        for name, value in tightened.items()
    }
    for name, count in broken.items():
        if count == 0:
            raise CheckFailed(
                f"{label}: the mistake '{name}' is not rejected: all {len(small)} instances obey it"
            )
    # A bound on magnitudes with half its constant would say less than it might: say so.
    slack = (large >= 0).all() and (small <= large / 2 + tol).all()
    _report(
        label,
        "bound",
        f"{len(small):,} instances" + (", constant not tested" if slack else ""),
        {name: f"broken by {count:,} of {len(small):,}" for name, count in broken.items()},
        room=min(broken.values()),
    )


def check_learned(
    label: str, distance: float, threshold: float, *, mistakes: Mapping[str, float]
) -> None:
    """Check that a trained quantity came close to an exactly computed target.

    Args:
        label: label of the equation whose solution was learned.
        distance: distance of the trained quantity from the target, in the unit that the text
            states.
        threshold: largest distance allowed.
        mistakes: the distance of an untrained or deliberately wrong run; each must exceed
            `threshold`.

    Raises:
        CheckFailed: `distance` exceeds `threshold`, or a mistake's does not.
        ValueError: threshold not positive, no mistakes, a distance that is negative or not finite.
    """
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"threshold of {label} is {threshold}; it must be positive and finite")
    distances = {name: float(value) for name, value in _named(label, mistakes).items()}
    for name, value in [("distance", float(distance)), *_as_mistakes(distances)]:
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} of {label} is {value}; a distance is finite and at least 0")
    if distance > threshold:
        raise CheckFailed(
            f"{label}: learned to a distance of {distance:.6g} from the target, "
            f"difference {distance - threshold:.3g} above the tolerance {threshold:g}"
        )
    for name, value in distances.items():
        if value <= threshold:
            raise CheckFailed(
                f"{label}: the mistake '{name}' is not rejected: "
                f"its distance {value:.3g} is within {threshold:g}"
            )
    _report(
        label,
        "learned",
        f"distance {threshold:g}",
        {name: f"ends {_two_digits(x)} away" for name, x in distances.items()},
        room=min(_ratio(threshold, distance), min(distances.values()) / threshold),
    )


# -- what the four share
# ------------------------------------------------------------------------------------


def _named(label: str, mistakes: Mapping[str, Any]) -> Mapping[str, Any]:
    if not mistakes:
        raise ValueError(
            f"{label} states no mistakes; a check must name at least one mistake that it rejects"
        )
    return mistakes


def _finite(name: str, label: str, value: Values) -> Array:
    return finite_floats(f"{name} of {label}", value)


def _exact(name: str, label: str, value: Values) -> Array:
    dtype = str(getattr(value, "dtype", ""))
    if any(short in dtype for short in ("float32", "float16")):
        raise ValueError(f"{name} of {label} has dtype {dtype}; an exact check needs float64")
    return _finite(name, label, value)


def _as_mistakes(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"mistake '{name}'", value) for name, value in values.items()]


def _same_shape(
    label: str, first: str, model: Array, other: Mapping[str, Array], mistakes: Mapping[str, Array]
) -> None:
    for name, value in [*other.items(), *_as_mistakes(mistakes)]:
        if value.shape != model.shape:
            raise ValueError(
                f"{name} of {label} has shape {value.shape}; {first} has {model.shape}"
            )


def _standard_errors(label: str, name: str, samples: Array, expected: Array) -> Array:
    """Distance of the sample mean from `expected` in standard errors, elementwise."""
    if samples.ndim == 0 or len(samples) < 30 or samples.shape[1:] != expected.shape:
        raise ValueError(
            f"{name} of {label}: samples have shape {samples.shape}, expected {expected.shape}; "
            "samples must be [n, *expected.shape] with n >= 30"
        )
    error = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    difference = np.abs(samples.mean(axis=0) - expected)
    # An element that never varies has no standard error: it must then be right to rounding.
    return np.divide(
        difference, error, out=np.where(difference < 1e-12, 0.0, np.inf), where=error > 1e-15
    )


def _index(at: tuple[Any, ...]) -> str:
    return "[" + ", ".join(str(int(i)) for i in at) + "]" if at else "the only element"


def _two_digits(x: float) -> str:
    """At most two significant digits, so that the line is the same on every machine."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    rounded = float(f"{x:.1e}")
    return f"{rounded:,.0f}" if 100 <= rounded < 1e6 else f"{rounded:.2g}"


def _ratio(allowed: float, measured: float) -> float:
    return allowed / measured if measured > 0 else math.inf


def _report(
    label: str, kind: str, tolerance: str, mistakes: Mapping[str, str], room: float
) -> None:
    """Display one line, and leave the machine-readable record in the output's metadata.

    `room` is the factor by which the check holds: of what is allowed over what was measured, and of
    the nearest mistake over what is needed, the smaller; of a bound, how many instances break the
    version that fewest break.
    """
    _times_checked[label] += 1
    times = _times_checked[label]
    anchor = f"check-{label}" + (f"-{times}" if times > 1 else "")
    test = {
        "exact": "exact to",
        "statistical": "within",
        "bound": "holds in all",
        "learned": "learned to",
    }[kind]
    rejected = "; ".join(f"{name} ({off})" for name, off in mistakes.items())
    line = f"✓ {label}: {test} {tolerance}. Rejected: {rejected}"
    markup = (
        f'<div class="rl-check" id="{anchor}"><span class="rl-check-mark" aria-hidden="true">✓</span> '
        f'<a href="#equation-{label}">{label}</a> <span class="rl-check-kind">{test} {tolerance}</span> '
        f'<span class="rl-check-rejected">rejected: {html.escape(rejected, quote=False)}</span></div>'
    )
    record = {
        "label": label,
        "anchor": anchor,
        "kind": kind,
        "tolerance": tolerance,
        "mistakes": dict(mistakes),
        "room": float(f"{room:.2g}"),
    }
    leave(line, markup, rl_check=record)
