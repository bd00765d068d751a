"""Sections run once, side by side, again only when they must, and a failing cell is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from extensions import execution, kernels
from tests.book.books import build, cell, executed, html, line_of, project, section

pytestmark = pytest.mark.filterwarnings("ignore")

# Each waits until both have begun, so the build ends only if they run at the same time.
MEET = """\
import os, pathlib, time
import rl_helpers
pathlib.Path("{me}.begun").touch()
begun = time.monotonic()
while not pathlib.Path("{other}.begun").exists():
    assert time.monotonic() - begun < 60, "the other section has not begun"
    time.sleep(0.01)
print(rl_helpers.ANSWER, os.environ["BOOK_STATIC"], os.environ["OMP_NUM_THREADS"])"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A book of two sections, built once."""
    runs = "It runs in {run-time}`a moment`."
    folder = project(
        tmp_path_factory.mktemp("book"),
        {
            "part/one": section("One", runs, cell(MEET.format(me="one", other="two"))),
            "part/two": section("Two", runs, cell(MEET.format(me="two", other="one"))),
        },
    )
    return folder, *build(folder, "-W", "--keep-going")


def test_sections_run_once_and_side_by_side(book: tuple[Path, int, str]) -> None:
    folder, status, log = book
    assert status == 0, log
    assert executed(log) == ["part/one", "part/two"]
    assert "Executing notebook" not in log, "MyST-NB executed a section again"
    assert "42 1 1" in html(folder, "part/one")
    assert "It runs in under 30 s." in html(folder, "part/one")
    notebook = json.loads((folder / "_build/notebooks/part/one.ipynb").read_text())
    assert notebook["cells"][1]["outputs"][0]["text"] == ["42 1 1\n"]
    assert set(json.loads((folder / "_build/timings.json").read_text())) == {"part/one", "part/two"}


def test_what_changed_is_executed_and_no_more(book: tuple[Path, int, str]) -> None:
    folder, *_ = book
    status, log = build(folder, "-W")
    assert (status, executed(log)) == (0, [])

    (folder / "rl_helpers" / "__init__.py").write_text("ANSWER = 43\n")
    (folder / "part" / "three.md").write_text(section("Three", cell("print(3)")))
    (folder / "part" / "two.md").unlink()
    index = folder / "index.md"
    index.write_text(index.read_text().replace("part/two", "part/three"))
    status, log = build(folder, "-W")
    assert status == 0, log
    assert executed(log) == ["part/one", "part/three"]
    assert "43 1 1" in html(folder, "part/one"), "the page shows what the old helper computed"
    left = {path.name for path in (folder / "_build/notebooks/part").iterdir()}
    assert left == {"one.ipynb", "three.ipynb"}


def test_an_interruption_leaves_a_cache_that_works(book: tuple[Path, int, str]) -> None:
    folder, *_ = book
    cache = folder / "_build/.jupyter_cache" / execution.execution_key(folder)
    for stored in cache.glob("executed/*/base.ipynb"):
        if "print(3)" in stored.read_text():
            stored.write_text(stored.read_text()[:100])  # cut short
        else:
            stored.unlink()  # recorded, but not written yet
    status, log = build(folder, "-W")
    assert status == 0, log
    assert executed(log) == ["part/one", "part/three"]


def test_a_failing_cell_is_named_and_the_last_site_kept(tmp_path: Path) -> None:
    pages = {"good": section("Good", cell("print('fine')")), "bad": section("Bad", cell("x = 1"))}
    folder = project(tmp_path, pages)
    assert build(folder, "-W")[0] == 0
    before = html(folder, "bad")
    broken = cell("x = 1\n\ny = 1 / 0  # here", options=":tags: [hide-input]\n\n")
    (folder / "bad.md").write_text(section("Bad", "Some prose.", cell("print(0)"), broken))
    status, log = build(folder, "-W")
    assert status == 1
    line = line_of(folder, "bad", "# here")
    assert f"bad.md:{line}: ERROR: a cell failed: ZeroDivisionError: division by zero" in log
    assert "1 of 1 sections failed to execute" in log
    assert "sphinx" not in log[log.index("ERROR") :], "a traceback of the build's own"
    assert html(folder, "bad") == before
    assert executed(build(folder)[1]) == [], "what failed must not be in the cache"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "under 30 s"), (31, "under 60 s"), (61, "under 2 min"), (121, "under 3 min")],
)
def test_run_times_are_coarse(seconds: float, said: str) -> None:
    assert execution.step(seconds) == said


def test_a_slow_section_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, {"slow": section("Slow", cell("1"))})
    monkeypatch.setenv("BOOK_SECTION_LIMIT", "0.001")
    monkeypatch.setenv("BOOK_BUILD_DIR", "elsewhere")
    status, log = build(folder, "-W", "--keep-going", output="elsewhere")
    assert status == 1
    assert "slow.md: WARNING: the section took" in log
    assert "allowed are 0.001 s (BOOK_SECTION_LIMIT)" in log
    assert (folder / "elsewhere/notebooks/slow.ipynb").is_file()
    assert not (folder / "_build").exists()
    monkeypatch.setenv("BOOK_SECTION_LIMIT", "soon")
    with pytest.raises(execution.ConfigError, match=r"'soon'.*number of seconds"):
        execution.section_limit()


def test_the_key_follows_helpers_and_lock(tmp_path: Path) -> None:
    folder = project(tmp_path, {})
    keys = [execution.execution_key(folder)]
    for name in ["rl_helpers/new.py", "rl_helpers/__init__.py", "constraints.txt"]:
        (folder / name).write_text("# changed\n")
        keys.append(execution.execution_key(folder))
    assert len(set(keys)) == 4
    (folder / "rl_helpers" / "__pycache__").mkdir()
    (folder / "rl_helpers" / "__pycache__" / "new.pyc").write_text("compiled")
    assert execution.execution_key(folder) == keys[-1]


def test_old_caches_are_deleted(tmp_path: Path) -> None:
    for name in "abcde":
        execution.open_cache(tmp_path / name).db.dispose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "d", "e"]


def test_a_cache_without_tables_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "global.db").touch()
    cache = execution.open_cache(tmp_path / "key")
    assert cache.list_cache_records() == []
    cache.db.dispose()


def test_lines_of_a_failure() -> None:
    text = "# A\n\n```{code-cell} ipython3\n:tags: [a]\n\nx = 1\ny = 2\n```\n"
    cells = [new_markdown_cell("# A"), new_code_cell("x = 1\ny = 2")]
    notebook = new_notebook(cells=cells, metadata={"source_map": [0, 3]})
    assert kernels.cell_line(notebook, 1, text) == 6
    report = kernels.failure(TimeoutError("\x1b[31mtoo slow\x1b[0m"), notebook, 1, text)
    assert report.line == 6
    assert str(report) == "a cell failed: too slow\n    too slow"
