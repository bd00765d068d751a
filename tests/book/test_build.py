"""The book builds without a warning, and twice the same."""

import filecmp
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from extensions.site import forget_words
from tools.build import build, report
from tools.site import build_folder

pytestmark = pytest.mark.site
FAILURE = os.environ.get("BOOK_FAILURE", "")


def files(folder: Path) -> set[str]:
    """The names of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_book_builds() -> None:
    if FAILURE:
        pytest.fail(FAILURE, pytrace=False)
    assert (build_folder() / "html" / "index.html").exists(), "there is no site: run make book"


def test_the_search_forgets_words_that_no_page_has_any_more() -> None:
    words: dict[str, set[str]] = {"kept": {"a"}, "gone": set()}
    indexer = SimpleNamespace(_mapping=dict(words), _title_mapping=dict(words))
    app = SimpleNamespace(builder=SimpleNamespace(indexer=indexer))
    assert forget_words(app) == [], "it adds no page"
    assert indexer._mapping == indexer._title_mapping == {"kept": {"a"}}


@pytest.mark.skipif(bool(FAILURE), reason="the book does not build")
def test_pages_of_a_second_clean_build_are_byte_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From what was executed: that an execution repeats, nbval shows."""
    first = build_folder()
    shutil.copytree(first / ".jupyter_cache", tmp_path / ".jupyter_cache")
    shutil.copy(first / "timings.json", tmp_path)
    monkeypatch.setenv("BOOK_BUILD_DIR", str(tmp_path))
    start = time.monotonic()
    report(build(), time.monotonic() - start)
    said = capfd.readouterr().out
    progress, _, ending = said.rpartition("\nThe book is up to date")
    assert ending.splitlines()[-1] == (tmp_path / "html" / "index.html").as_uri()
    assert "build succeeded" in progress
    assert "stage" not in progress.partition("build succeeded")[2], "the place of no site is named"
    # The stage: into html, `make pdf` puts what Sphinx did not write.
    for part in ("stage/_build/html", "notebooks"):
        one, two = first / part, tmp_path / part
        assert files(one) == files(two)
        same, different, failed = filecmp.cmpfiles(one, two, sorted(files(one)), shallow=False)
        assert not different + failed, f"not the same in two builds: {different + failed}"
        assert same
