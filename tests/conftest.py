"""What the tests of the helpers share."""

import jaxtyping
import pytest
from hypothesis import settings

# The same examples in every run, so that a failure in CI is one here too.
settings.register_profile("book", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("book")


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call helpers as a reader does: bad shapes reach their `ValueError`, not the type checker."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
