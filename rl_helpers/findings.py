"""`finding`: what a run shows, said only as far as it is checked.

A finding is the sibling of a check for experiments. It takes one number from each independent
run, with the bound that the text claims for their mean, and raises `FindingFailed` unless the mean
clears that bound by two standard errors. Otherwise it displays one line and leaves a record in the
output's metadata, from which the build makes the ledger's table *What the runs show*.

A run's numbers differ from one processor to the next: a claim that is to hold on all of them, and
at other seeds, needs a margin of about five standard errors.
"""

import html
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_helpers.records import leave
from rl_helpers.validation import finite_floats

Samples = Any  # a sequence, a NumPy array or a torch tensor: one number of each run
Number = int | float

MARGIN = 2.0  # standard errors by which the mean must clear its bound
LEAST = 8  # with fewer runs a standard error is itself a guess


class FindingFailed(AssertionError):
    """The runs do not show what the text claims."""


def finding(
    name: str,
    samples: Samples,
    versus: Samples | None = None,
    *,
    above: Number | None = None,
    below: Number | None = None,
    about: Number | None = None,
    within: Number | None = None,
    over: str = "seeds",
) -> None:
    """Check a claim about the mean over independent runs, and display it.

    Args:
        name: unique in the book, lower-case words joined by hyphens; the line's anchor is
            `finding-<name>`.
        samples: one number of each run, shape [n], n >= 8, in the unit that the text states.
        versus: the same of a second setting, shape [n], paired by seed; the claim is then about
            the mean of `samples - versus`.
        above: the mean is larger than this.
        below: the mean is smaller than this.
        about: the mean differs from this by less than `within`.
        within: the largest difference meant by `about`, positive.
        over: what the samples come from: "seeds", "episodes", "batches".

    Raises:
        FindingFailed: the mean does not clear its bound by 2 standard errors; for `about`, the
            interval of 2 standard errors does not lie inside `about` ± `within`.
        ValueError: a bad name, no bound or more than one, fewer than 8 samples, samples that are
            unpaired, all the same, NaN or infinite.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"name is {name!r}; allowed are lower-case words joined by hyphens")
    claim, clearance = _claim(name, above, below, about, within)
    values = _values("samples", name, samples)
    if versus is not None:
        other = _values("versus", name, versus)
        if other.shape != values.shape:
            raise ValueError(
                f"versus of {name} has shape {other.shape}, samples {values.shape}; allowed are "
                "pairs: one number of each seed in both, in the same order"
            )
        values = values - other
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise ValueError(
            f"all {len(values)} samples of {name} are {values[0]:.6g}, so there is no standard "
            "error; allowed are samples that vary: take a finer measure, or quote the count"
        )
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    margin = clearance(mean) / error
    digits = max(0, 1 - math.floor(math.log10(error)))  # two of the error, after the point
    effect = f"{_text(mean, digits)} ± {_text(error, digits)}"
    low, high = (_text(mean + MARGIN * sign * error, digits) for sign in (-1, 1))
    if margin < MARGIN:
        raise FindingFailed(
            f"{name}: {effect} over {len(values):,} {over} is not {claim} by {MARGIN:g} standard "
            f"errors, but by {_text(margin, 2)}; the interval of {MARGIN:g} standard errors is "
            f"{low} to {high}. Take more {over} or a sharper measure, or claim less"
        )
    spared = _text(margin, 0 if margin >= 9.95 else 1)
    said = f"{effect} over {len(values):,} {over}, {claim} by {spared} standard errors"
    markup = (
        f'<div class="rl-check" id="finding-{name}">'
        '<span class="rl-check-mark" aria-hidden="true">✓</span> '
        f'<a href="#finding-{name}">{name}</a> '
        f'<span class="rl-check-kind">{html.escape(said, quote=False)}</span></div>'
    )
    record = {
        "name": name,
        "anchor": f"finding-{name}",
        "effect": effect,
        "interval": f"{low} to {high}",
        "over": f"{len(values):,} {over}",
        "bound": claim,
        "margin": spared,
        "room": float(f"{margin:.3g}"),
        "mean": mean,
        "standard_error": error,
    }
    leave(f"✓ {name}: {said}", markup, rl_finding=record)


def _claim(
    name: str,
    above: Number | None,
    below: Number | None,
    about: Number | None,
    within: Number | None,
) -> tuple[str, Callable[[float], float]]:
    """The bound in words, and how far inside it a mean lies."""
    bounds = {"above": above, "below": below, "about": about, "within": within}
    given = {key: value for key, value in bounds.items() if value is not None}
    if set(given) not in ({"above"}, {"below"}, {"about", "within"}):
        raise ValueError(
            f"{name} has the bounds {', '.join(given) or 'none'}; allowed is one of above=, "
            "below=, or about= with within="
        )
    for key, value in given.items():
        if not math.isfinite(value):
            raise ValueError(f"{key} of {name} is {value}; it must be finite")
    words = {key: f"{value:,.6g}".replace("-", "−") for key, value in given.items()}
    if above is not None:
        return f"above {words['above']}", lambda mean: mean - above
    if below is not None:
        return f"below {words['below']}", lambda mean: below - mean
    assert about is not None
    assert within is not None
    if within <= 0:
        raise ValueError(f"within of {name} is {within:g}; it must be positive")
    said = f"within {words['within']} of {words['about']}"
    return said, lambda mean: within - abs(mean - about)


def _values(argument: str, name: str, samples: Samples) -> NDArray[np.float64]:
    values = finite_floats(f"{argument} of {name}", samples)
    if values.ndim != 1 or len(values) < LEAST:
        raise ValueError(
            f"{argument} of {name} has shape {values.shape}; allowed is one number of each seed, "
            f"shape [n], n >= {LEAST}"
        )
    return values


def _text(x: float, digits: int) -> str:
    """A number as the page shows it: thousands with commas, and a true minus."""
    return f"{x:z,.{digits}f}".replace("-", "−")
