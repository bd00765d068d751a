"""What a cell leaves behind: a line for the reader, and a record from which the book is built.

`record` names numbers of a run, so that the text can quote them instead of typing them: after
`record(drift=0.4321)` the role `` {run}`drift:.1f` `` says 0.4, in prose and captions of the
same section.
"""

import math
import os
from dataclasses import fields
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

# MyST-NB keeps outputs with this prefix out of the page, and nbval compares them.
UNSEEN = "application/papermill.record/"


def leave(line: str, markup: str, **records: dict[str, Any]) -> None:
    """Display one line, in a notebook as `markup` with records in the output's metadata."""
    if InteractiveShell.initialized():
        display({"text/plain": line, "text/html": markup}, raw=True, metadata=records)
    else:  # a plain Python session, such as a test
        print(line)


def record(**numbers: Any) -> None:
    """Record numbers of a run under the names by which the section's text quotes them.

    In the built page nothing is shown; a live notebook, where the text cannot quote, shows them.

    Args:
        **numbers: for each name a finite number, NumPy's and tensors of one element included.

    Raises:
        ValueError: no number, several under one name, or one that is NaN or infinite.
    """
    if not numbers:
        raise ValueError("record() got no numbers; allowed is record(name=value, ...)")
    for name, value in {name: _number(name, value) for name, value in numbers.items()}.items():
        shown = {"text/plain": f"{name} = {value!r}"}
        metadata: dict[str, Any] = {"rl_number": {"name": name, "value": value}}
        if os.environ.get("BOOK_STATIC"):
            shown = {UNSEEN + "text/plain": repr(value)}
            metadata["scrapbook"] = {"name": f"{name} = {value!r}", "mime_prefix": UNSEEN}
        if InteractiveShell.initialized():
            display(shown, raw=True, metadata=metadata)


def settings(config: Any) -> dict[str, Any]:
    """The numbers among a configuration's settings, by name, to be recorded: `record(**settings(c))`.

    What the text then quotes follows the configuration, its defaults included.

    Args:
        config: a dataclass; fields that hold no finite number, such as tuples, are left out.
    """
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _number(name: str, value: Any) -> int | float:
    """`value` as Python's own number, which JSON keeps to its last digit."""
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        raise ValueError(f"{name} has shape {shape}; one number is recorded under one name")
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not math.isfinite(plain):
        raise ValueError(f"{name} is {plain!r}; allowed is a finite number")
    return plain
