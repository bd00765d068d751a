"""The page of run times and versions, made by the build from what the cache keeps."""

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from extensions import run_times
from tests.book import books
from tools.environment import ROOT
from tools.site import build_folder

PAGE = "# Times\n\n```{run-times}\n```\n\n```{versions}\n```\n"
CONF = books.CONF.replace(
    '["extensions.execution"]', '["extensions.execution", "extensions.run_times"]'
)


def rows(page: str) -> list[list[str]]:
    """The cells of all lines of a page's tables, without their tags."""
    lines = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[dh].*?</t[dh]>", line, re.DOTALL) for line in lines]
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in line] for line in cells]


def test_the_page_has_each_sections_time_in_the_order_of_the_contents(tmp_path: Path) -> None:
    second = books.section("Earlier", books.cell("1"))
    folder = books.project(
        tmp_path,
        {"b": books.section("Later in the alphabet", books.cell("1")), "a": second, "times": PAGE},
        CONF,
    )
    (folder / "requirements.txt").write_text("-c constraints.txt\nnumpy==2\n# x==1\nSphinx==7\n")
    status, log = books.build(folder, "-W")
    assert status == 0, log
    shown = rows(books.html(folder, "times"))
    seconds = json.loads((folder / "_build" / "timings.json").read_text())
    together = sum(seconds.values())
    assert shown[:4] == [
        ["Section", "Seconds"],
        ["Later in the alphabet", f"{seconds['b']:.1f}"],
        ["Earlier", f"{seconds['a']:.1f}"],
        ["Together", f"{together:,.0f}"],
    ]
    named = dict(shown[4:])
    assert named["Python"].endswith(platform.python_version())
    assert named["numpy"] == version("numpy"), "what is installed, not what is asked for"
    assert named["Sphinx"] == version("sphinx")
    assert "x" not in named

    # A change of another page keeps the times; a new execution changes the page.
    first = rows(books.html(folder, "times"))
    (folder / "a.md").write_text(second.replace("Earlier", "Earliest"))
    assert books.build(folder, "-W")[0] == 0
    first[2][0] = "Earliest"
    assert rows(books.html(folder, "times")) == first
    (folder / "a.md").write_text(books.section("Earlier", books.cell("import time; time.sleep(1)")))
    assert books.build(folder, "-W")[0] == 0
    assert float(rows(books.html(folder, "times"))[2][1]) >= 1


def test_a_processor_is_named_on_every_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_times, "Path", lambda name: tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert run_times.processor() == platform.machine()


@pytest.mark.site
def test_the_book_lists_all_its_sections() -> None:
    page = build_folder() / "html" / "chapters" / "outlook" / "run-times.html"
    seconds = json.loads((build_folder() / "timings.json").read_text())
    shown = rows(page.read_text("utf8"))
    assert [f"{value:.1f}" for value in sorted(seconds.values())] == sorted(
        (line[1] for line in shown[1 : len(seconds) + 1]), key=float
    )
    required = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(required) <= {line[0] for line in shown}
