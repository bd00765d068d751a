"""Sections run once, side by side, again only when they must, and a failing cell is named."""

from __future__ import annotations

import json
from pathlib import Path

import grimp
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from extensions import execution, kernels, keys
from tests.book.books import build, cell, executed, html, line_of, project, section
from tools.environment import ROOT

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
    cache = folder / "_build/.jupyter_cache"
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
    again = build(folder, "-W", "--keep-going", output="elsewhere")[1]
    assert executed(again) == ["slow"], "the machine may have been busy"
    monkeypatch.setenv("BOOK_SECTION_LIMIT", "soon")
    with pytest.raises(execution.ConfigError, match=r"'soon'.*number of seconds"):
        execution.section_limit()


HELPERS = {
    "__init__.py": "",
    "instrument.py": "import math",
    "part/__init__.py": "",
    "part/first.py": "from rl_helpers import instrument\nANSWER = 1",
    "part/second.py": "from rl_helpers.part.first import ANSWER",
    "later/__init__.py": "",
    "later/third.py": "import rl_helpers.part.second as second\nANSWER = 3",
}


def with_helpers(folder: Path) -> Path:
    """Give a book three helpers that build on one another."""
    for name, text in HELPERS.items():
        (folder / "rl_helpers" / name).parent.mkdir(exist_ok=True)
        (folder / "rl_helpers" / name).write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("import numpy", set()),
        ("import rl_helpers", {"__init__"}),
        ("from rl_helpers import instrument", {"__init__", "instrument"}),
        (
            "from rl_helpers.part import first",
            {"__init__", "part/__init__", "part/first", "instrument"},
        ),
        (
            "%matplotlib inline\ndef f():\n    from rl_helpers.later.third import ANSWER",
            {name.removesuffix(".py") for name in HELPERS},
        ),
        ("from rl_helpers import (", set()),  # it fails when it runs
    ],
)
def test_helpers_that_code_uses(code: str, used: set[str], tmp_path: Path) -> None:
    folder = with_helpers(project(tmp_path, {}))
    paths = {folder / "rl_helpers" / f"{name}.py" for name in used}
    assert keys.helpers(folder, ["x = 1", code]) == paths


def test_helpers_of_the_book_as_grimp_finds_them() -> None:
    graph = grimp.build_graph("rl_helpers", cache_dir=None)
    for module in graph.modules:
        used = {module, *graph.find_upstream_modules(module)}
        packages = {name.rsplit(".", n)[0] for name in used for n in range(name.count(".") + 1)}
        found = keys.helpers(ROOT, [f"import {module}"])
        names = (path.relative_to(ROOT).with_suffix("").as_posix() for path in found)
        assert {name.removesuffix("/__init__").replace("/", ".") for name in names} == packages


def test_one_helper_changed_runs_the_sections_that_use_it(tmp_path: Path) -> None:
    pages = {
        "none": section("None", cell("print('alone')")),
        "early": section("Early", cell("from rl_helpers.part.first import ANSWER\nprint(ANSWER)")),
        "late": section("Late", cell("from rl_helpers.later import third\nprint(third.ANSWER)")),
    }
    folder = with_helpers(project(tmp_path, pages))
    assert executed(build(folder, "-W")[1]) == ["early", "late", "none"]
    (folder / "rl_helpers/later/third.py").write_text("ANSWER = 33\n")
    status, log = build(folder, "-W")
    assert (status, executed(log)) == (0, ["late"])
    assert "33" in html(folder, "late"), "the page shows what the old helper computed"
    (folder / "rl_helpers/instrument.py").write_text("import math  # changed\n")
    assert executed(build(folder, "-W")[1]) == ["early"], "third.py no longer uses it"
    (folder / "constraints.txt").write_text("numpy==2.1\n")
    assert executed(build(folder, "-W")[1]) == ["early", "late", "none"]


def test_a_cache_without_tables_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "global.db").touch()
    cache = execution.open_cache(tmp_path)
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
