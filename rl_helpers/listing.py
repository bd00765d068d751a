"""`show`: the source of helpers, on the page."""

import inspect
import textwrap
from collections.abc import Callable
from typing import Any


class show:
    """Show the source of helpers, highlighted: the very code that the book runs.

    Args:
        *helpers: functions or classes.
    """

    def __init__(self, *helpers: Callable[..., Any]) -> None:
        if not helpers:
            raise ValueError("show() got no helpers; name at least one function")
        self.source = "\n\n".join(
            textwrap.dedent(inspect.getsource(helper)).rstrip() for helper in helpers
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/markdown": f"```python\n{self.source}\n```", "text/plain": self.source}
