"""How quoted numbers look, and what a wrong quote says. Quotes in a built book: test_ledger.py."""

from __future__ import annotations

import pytest

from extensions.quotes import quote, recorded, shown


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (16, "", "16"), (2_000, "", "2,000"), (-3, "", "−3"),
        (0.4321, ".1f", "0.4"), (-0.4321, ".2f", "−0.43"), (0.4321, "+.1f", "+0.4"),
        (-0.04, ".1f", "0.0"), (12_345.678, ".0f", "12,346"), (7, ".1f", "7.0"),
        (0.126, ".0%", "13\u00a0%"), (-0.5, "+.1%", "−50.0\u00a0%"),
        (1_234, ".2g", "1,200"), (0.01234, ".2g", "0.012"), (-98.7, ".2g", "−99"),
        (99.7, ".2g", "100"), (0, ".2g", "0.0"), (2.5e-7, ".1g", "0.0000002"), (4.04, ".2g", "4.0"),
    ],
)  # fmt: skip
def test_numbers(value: float, form: str, text: str) -> None:
    assert shown(value, form) == text


RECORDS = {
    "drift": {"name": "drift", "value": 0.4321},
    "it-wins": {"name": "it-wins", "mean": 12.34, "effect": "12.3 ± 1.1"},
}


def test_a_finding_is_quoted_whole_or_by_its_mean() -> None:
    assert quote(RECORDS, "it-wins") == "12.3 ± 1.1"
    assert quote(RECORDS, "it-wins:.0f") == "12"
    assert quote(RECORDS, "drift:.2f") == "0.43"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drift", "0.4321 needs a format, such as .1f"),
        ("drift:1", "the format '1' does not exist; allowed are .1f, .2g, .0% and +.1f"),
        ("drift:.1e", "the format '.1e' does not exist"),
        (
            "drifts:.1f",
            "nothing is recorded as 'drifts' in this section; names are: drift, it-wins",
        ),
    ],
)
def test_wrong_quotes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        quote(RECORDS, text)
    assert message in str(caught.value)


def test_what_a_notebook_records() -> None:
    number = {"metadata": {"rl_number": {"name": "drift", "value": 1}}}
    found = {"metadata": {"rl_finding": {"name": "it-wins", "mean": 1.0}}}
    other = {"metadata": {"rl_check": {"label": "eq-a"}}}
    cells = [{"outputs": [other, number]}, {}, {"outputs": [{}, found]}]
    assert list(recorded({"cells": cells})) == ["drift", "it-wins"]
    with pytest.raises(ValueError, match="names are: none"):
        quote(recorded({"cells": []}), "drift")
