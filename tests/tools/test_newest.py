"""The newest versions: pins move, what is held stays, a failure changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import newest
from tools.environment import ROOT
from tools.messages import Stop

RESOLVED = """\
dask==2027.1
jupyter-book==1.0.9
numpy==3.0.1
ruff==0.99
setuptools==99.1
small==1 ; python_full_version < '3.12'
small==2 ; python_full_version >= '3.12'
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text(
        "-c constraints.txt\n# the site\njupyter-book==1.0.4.post1\nnumpy==2.4.6  # arrays\n"
    )
    (tmp_path / "requirements-dask.txt").write_text("-c constraints.txt\ndask==2026.8.0\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\nruff==0.17.6\n")
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\nsetuptools==84.2.1\nsmall==1\n")
    (tmp_path / "pyproject.toml").write_text('requires = ["setuptools==84.2.1"]\n')
    return tmp_path


def test_pins_move_and_comments_stay(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def resolve(root: Path) -> str:
        seen.update({name: (root / name).read_text() for name in (*newest.FILES, newest.LOCK)})
        return RESOLVED

    monkeypatch.setattr(newest, "resolve", resolve)
    said = newest.move(book)
    relaxed = "-c constraints.txt\n# the site\njupyter-book<2\nnumpy  # arrays\n"
    assert seen["requirements.txt"] == relaxed
    assert seen[newest.LOCK] == "", "the old lock would hold every version"
    after = "-c constraints.txt\n# the site\njupyter-book==1.0.9\nnumpy==3.0.1  # arrays\n"
    assert (book / "requirements.txt").read_text() == after
    assert (book / "requirements-dask.txt").read_text() == "-c constraints.txt\ndask==2027.1\n"
    assert (book / "requirements-dev.txt").read_text() == "-r requirements.txt\nruff==0.99\n"
    assert (book / "constraints.txt").read_text() == RESOLVED
    assert "setuptools==99.1" in (book / "pyproject.toml").read_text()
    assert "| numpy | 2.4.6 | 3.0.1 |" in said
    assert "small" not in said, "it did not move"


def test_what_does_not_resolve_changes_nothing(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_text() for path in book.iterdir()}

    def resolve(root: Path) -> str:
        raise Stop("The requirements do not fit together")

    monkeypatch.setattr(newest, "resolve", resolve)
    with pytest.raises(Stop, match="do not fit"):
        newest.move(book)
    assert {path.name: path.read_text() for path in book.iterdir()} == before


def test_what_is_held_is_required() -> None:
    required = newest.pins("\n".join((ROOT / name).read_text() for name in newest.FILES))
    assert set(newest.HELD) <= set(required)


def test_every_action_is_pinned_by_its_commit() -> None:
    """Zizmor says so too; here with the version beside it, for the reader of a diff."""
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for line in path.read_text().splitlines():
            if "uses:" in line:
                target, _, comment = line.partition("uses:")[2].partition("#")
                commit = target.strip().partition("@")[2]
                assert len(commit) == 40, f"{path.name}: {line.strip()}"
                assert int(commit, 16)
                assert comment.strip().startswith("v"), f"{path.name}: {line.strip()}"
