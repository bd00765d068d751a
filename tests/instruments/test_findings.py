"""Findings: what clears its bound, what does not, and what each says; and recorded numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from rl_helpers.findings import FindingFailed, finding
from rl_helpers.records import record, settings

pytestmark = pytest.mark.usefixtures("untyped")  # lists, numbers and wrong shapes on purpose

# Mean 10; variance 16 * 4 / 15, so a standard error of sqrt(64 / 15 / 16) = 0.51640.
SAMPLES = np.tile([8.0, 12.0], 8)
ERROR = np.sqrt(64 / 15 / 16)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


# ---- Passing, and the line that says so ---------------------------------------------------------

PASSING: list[tuple[Any, dict[str, Any], str]] = [
    # 10 / 0.5164 = 19.36, 2 / 0.5164 = 3.873, (1.5 - 0.2) / 0.5164 = 2.517
    (SAMPLES, {"above": 0}, "10.00 ± 0.52 over 16 seeds, above 0 by 19 standard errors"),
    (SAMPLES, {"below": 12.0}, "10.00 ± 0.52 over 16 seeds, below 12 by 3.9 standard errors"),
    (SAMPLES, {"about": 10.2, "within": 1.5},
     "10.00 ± 0.52 over 16 seeds, within 1.5 of 10.2 by 2.5 standard errors"),
    (SAMPLES, {"about": 9.8, "within": 1.5},
     "10.00 ± 0.52 over 16 seeds, within 1.5 of 9.8 by 2.5 standard errors"),
    (SAMPLES, {"above": 5, "over": "batches"},
     "10.00 ± 0.52 over 16 batches, above 5 by 9.7 standard errors"),
    (-SAMPLES, {"below": -2.5}, "−10.00 ± 0.52 over 16 seeds, below −2.5 by 15 standard errors"),
    # 9.95 standard errors are 10, not 10.0
    (SAMPLES, {"above": 10 - 9.96 * ERROR}, "by 10 standard errors"),
    (1000 * SAMPLES, {"above": 5_000},
     "10,000 ± 516 over 16 seeds, above 5,000 by 9.7 standard errors"),
    (SAMPLES / 1000, {"above": 0},
     "0.01000 ± 0.00052 over 16 seeds, above 0 by 19 standard errors"),
]  # fmt: skip


@pytest.mark.parametrize(("samples", "bound", "said"), PASSING)
def test_passes(
    samples: Any, bound: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finding("the-run", samples, **bound)
    shown = line(capsys)
    assert shown.startswith("✓ the-run: ")
    assert shown.endswith(said)


def test_versus_takes_differences_seed_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    # the settings differ by 1 or 3 in each seed; unpaired, their spread would hide it
    other = SAMPLES * 100
    finding("the-run", other + np.tile([1.0, 3.0], 8), other, above=0)
    assert line(capsys) == "✓ the-run: 2.00 ± 0.26 over 16 seeds, above 0 by 7.7 standard errors"


def test_takes_lists_and_tensors_with_gradients() -> None:
    finding("the-run", SAMPLES.tolist(), above=0)
    finding("the-run", torch.tensor(SAMPLES, requires_grad=True), [0] * 16, above=0)


def test_just_clears_and_just_misses() -> None:
    """Two standard errors decide, on either side of the mean and for intervals alike."""
    for off in (1.99, 2.01):
        for bound in (
            {"above": 10 - off * ERROR},
            {"below": 10 + off * ERROR},
            {"about": 10.5, "within": 0.5 + off * ERROR},
            {"about": 9.5, "within": 0.5 + off * ERROR},
        ):
            if off > 2:
                finding("the-run", SAMPLES, **bound)
            else:
                with pytest.raises(FindingFailed):
                    finding("the-run", SAMPLES, **bound)


# ---- Failing, and what the failure says ---------------------------------------------------------

FAILURES: list[tuple[dict[str, Any], str]] = [
    # (10 - 9.5) / 0.5164 = 0.968; 10 ± 2 * 0.5164
    ({"above": 9.5},
     "the-run: 10.00 ± 0.52 over 16 seeds is not above 9.5 by 2 standard errors, but by 0.97; "
     "the interval of 2 standard errors is 8.97 to 11.03. Take more seeds or a sharper measure, "
     "or claim less"),
    ({"above": 12}, "is not above 12 by 2 standard errors, but by −3.87"),
    ({"below": 9}, "is not below 9 by 2 standard errors, but by −1.94"),
    # 10 lies inside 10 ± 1, but not by 2 * 0.5164
    ({"about": 10, "within": 1}, "is not within 1 of 10 by 2 standard errors, but by 1.94"),
    ({"about": 0, "within": 1}, "is not within 1 of 0 by 2 standard errors, but by −17.43"),
]  # fmt: skip


@pytest.mark.parametrize(("bound", "message"), FAILURES)
def test_failure_messages(
    bound: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FindingFailed) as caught:
        finding("the-run", SAMPLES, **bound)
    assert message in str(caught.value)
    assert line(capsys) == "", "a finding that fails must not say that it holds"


BAD_INPUT: list[tuple[Callable[[], None], str]] = [
    (lambda: finding("The run", SAMPLES, above=0),
     "name is 'The run'; allowed are lower-case words joined by hyphens"),
    (lambda: finding("the-run", SAMPLES),
     "the-run has the bounds none; allowed is one of above=, below=, or about= with within="),
    (lambda: finding("the-run", SAMPLES, above=0, below=20), "has the bounds above, below;"),
    (lambda: finding("the-run", SAMPLES, about=0), "has the bounds about;"),
    (lambda: finding("the-run", SAMPLES, within=1), "has the bounds within;"),
    (lambda: finding("the-run", SAMPLES, above=0, within=1), "has the bounds above, within;"),
    (lambda: finding("the-run", SAMPLES, about=10, within=0),
     "within of the-run is 0; it must be positive"),
    (lambda: finding("the-run", SAMPLES, above=np.nan), "above of the-run is nan; it must be finite"),
    (lambda: finding("the-run", SAMPLES[:7], above=0),
     "samples of the-run has shape (7,); allowed is one number of each seed, shape [n], n >= 8"),
    (lambda: finding("the-run", SAMPLES.reshape(8, 2), above=0), "samples of the-run has shape (8, 2)"),
    (lambda: finding("the-run", SAMPLES, SAMPLES[:8], above=0),
     "versus of the-run has shape (8,), samples (16,); allowed are pairs"),
    (lambda: finding("the-run", [*SAMPLES, np.nan], above=0),
     "samples of the-run holds 1 values that are NaN or infinite"),
    (lambda: finding("the-run", SAMPLES, [np.inf] * 16, above=0), "versus of the-run holds 16 values"),
    (lambda: finding("the-run", [], above=0), "samples of the-run is empty"),
    (lambda: finding("the-run", SAMPLES > 9, above=0), "samples of the-run has dtype bool"),
    (lambda: finding("the-run", np.full(16, 0.1), above=0),
     "all 16 samples of the-run are 0.1, so there is no standard error"),
    (lambda: finding("the-run", [-3.0] * 8, below=0),
     "all 8 samples of the-run are -3, so there is no standard error"),
    (lambda: finding("the-run", SAMPLES + 1, SAMPLES, above=0), "all 16 samples of the-run are 1,"),
    (lambda: record(), "record() got no numbers; allowed is record(name=value, ...)"),
    (lambda: record(drift=float("nan")), "drift is nan; allowed is a finite number"),
    (lambda: record(drift="far"), "drift is 'far'; allowed is a finite number"),
    (lambda: record(drift=True), "drift is True; allowed is a finite number"),
    (lambda: record(drift=SAMPLES),
     "drift has shape (16,); one number is recorded under one name"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input(call: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert message in str(caught.value)


# ---- In a notebook ------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """An IPython that keeps no history and knows no user."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    InteractiveShell.clear_instance()


def displayed(call: Callable[[], None]) -> list[Any]:
    with capture_output() as captured:
        call()
    return captured.outputs


def test_the_record_of_a_finding(shell: InteractiveShell) -> None:
    (output,) = displayed(lambda: finding("the-run", -SAMPLES, below=0))
    found = output.metadata["rl_finding"]
    assert (found.pop("mean"), found.pop("standard_error")) == (-10, pytest.approx(ERROR))
    assert found == {
        "name": "the-run",
        "anchor": "finding-the-run",
        "effect": "−10.00 ± 0.52",
        "interval": "−11.03 to −8.97",
        "over": "16 seeds",
        "bound": "below 0",
        "margin": "19",
        "room": 19.4,
    }
    said = "−10.00 ± 0.52 over 16 seeds, below 0 by 19 standard errors"
    assert output.data["text/plain"] == f"✓ the-run: {said}"
    assert output.data["text/html"].startswith('<div class="rl-check" id="finding-the-run">')
    assert said in output.data["text/html"]


def test_recorded_numbers_are_kept_out_of_the_page(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOK_STATIC", "1")
    third = torch.tensor([1 / 3], dtype=torch.float64, requires_grad=True)
    outputs = displayed(lambda: record(third=third, seeds=np.int64(16)))
    numbers = [output.metadata["rl_number"] for output in outputs]
    assert numbers == [{"name": "third", "value": 1 / 3}, {"name": "seeds", "value": 16}]
    assert [type(found["value"]) for found in numbers] == [float, int]
    assert outputs[0].data == {"application/papermill.record/text/plain": repr(1 / 3)}


def test_a_live_notebook_shows_recorded_numbers(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BOOK_STATIC", raising=False)
    (output,) = displayed(lambda: record(seeds=16))
    assert output.data == {"text/plain": "seeds = 16"}


def test_one_bad_number_leaves_no_record_of_the_others(shell: InteractiveShell) -> None:
    with capture_output() as captured, pytest.raises(ValueError, match="drift is inf"):
        record(seeds=16, drift=np.inf)
    assert captured.outputs == []


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    steps: int = 3
    annealed: bool = True
    clip: float = math.inf
    hidden: tuple[int, ...] = (32, 32)
    stop_at: float | None = None


def test_settings_are_the_numbers_of_a_configuration() -> None:
    assert settings(Settings()) == {"rate": 0.5, "steps": 3}
    assert settings(Settings(clip=0.2, stop_at=475)) == {
        "rate": 0.5, "steps": 3, "clip": 0.2, "stop_at": 475,
    }  # fmt: skip
    record(**settings(Settings()))
