"""Sections in a real JupyterLab, as `make lab` starts it: opened, run, read, a slider moved, saved."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbformat import NotebookNode
from playwright.sync_api import ConsoleMessage, Page, TimeoutError, expect, sync_playwright

from tests.book.browser import ARGUMENTS, patience
from tools import lab, labels
from tools.environment import ROOT, VENV, variables, write_settings
from tools.process import end

pytestmark = pytest.mark.site

CHAPTERS = ROOT / "chapters"
SECTIONS = ["mdp/decision-processes.md", "policy-gradients/bandits.md"]
TOKEN = "only-for-this-test"
NOT_IN_A_BOX = ("section", "equation", "figure")
LIMIT = 150  # seconds for all of it
REACTION = 30  # seconds from a key press to the new figure

# What the open notebook holds, which is more than what JupyterLab has put on the screen.
CELLS = """
() => [...jupyterapp.shell.currentWidget.content.model.cells]
  .filter((cell) => cell.type === "code")
  .map((cell) => ({
    ran: cell.executionCount !== null && (cell.executionState ?? "idle") === "idle",
    errors: cell.outputs.toJSON()
      .filter((output) => output.output_type === "error")
      .map((output) => `${output.ename}: ${output.evalue}`),
  }))
"""

# Markdown as shown, without the sources that formulas carry for screen readers.
TEXTS = """
() => [...jupyterapp.shell.currentWidget.node.querySelectorAll(".jp-MarkdownCell, .rl-caption")]
  .map((cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll(".katex-mathml, .jp-InputArea-editor").forEach((part) => part.remove());
    return copy.textContent;
  })
"""
# What no reader should meet: roles, directives, fences, formulas' dollars, lost references, the
# gates of a solution, labels, keys of the bibliography.
RAW = re.compile(
    r"\{[a-z:-]+\}|:::|```|\$\$|\?\?|Start of|End of"
    r"|\b(sec|eq|fig|def|thm|alg|ex|sol)-[a-z]|\b[a-z]+(19|20)\d\d\b"
)
LOST = re.compile(r"target|reference", re.I)  # jupyterlab-myst writes it to the console

# An explorer's output, and what its figure says and shows.
LIVE = ".jp-OutputArea-output:has(.widget-hslider)"
FIGURE = f"""
() => {{ const figure = document.querySelector("{LIVE} img"); return [figure.alt, figure.src]; }}
"""


class Deadline:
    """Shares the time that the test may take among its steps."""

    def __init__(self) -> None:
        self.end = time.monotonic() + LIMIT

    def left(self, step: str) -> float:
        """Seconds that are left at some step."""
        left = self.end - time.monotonic()
        if left <= 0:
            pytest.fail(f"{step}: not within {LIMIT} s", pytrace=False)
        return left


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def jupyterlab(book: Path, deadline: Deadline, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run JupyterLab on a copy of the book, away from the user's own settings; gives its address."""
    patch.setattr(lab, "ROOT", book)
    patch.delenv("BOOK_STATIC", raising=False)
    port, own = free_port(), book.parent / "jupyter"
    kinds = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    env = variables(**{f"JUPYTER_{kind}": str(own / kind.lower()) for kind in kinds})
    env |= {"JUPYTERLAB_SETTINGS_DIR": str(own), "JUPYTERLAB_WORKSPACES_DIR": str(own)}
    env |= {"IPYTHONDIR": str(own / "ipython")}
    write_settings(VENV)
    labels.main(VENV)
    line = lab.command(port, TOKEN)
    line += ["--LabApp.expose_app_in_browser=True"]  # for CELLS
    line += [] if "--no-browser" in line else ["--no-browser"]
    log = book.parent / "lab.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            line, cwd=book, env=env, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            answers = f"http://127.0.0.1:{port}/api?token={TOKEN}"
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(answers, timeout=5).close()
                    break
                assert process.poll() is None, f"JupyterLab ended:\n{log.read_text()}"
                deadline.left(f"JupyterLab starts:\n{log.read_text()}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/lab/tree/chapters?token={TOKEN}"
        finally:
            process.terminate()  # it ends its kernels
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            end(process)


def open_section(tab: Page, address: str, section: str) -> None:
    """Double-click through the folders to the section, as a reader does."""
    tab.goto(address)
    for name in section.split("/"):
        tab.locator(".jp-DirListing-item").filter(has_text=name).dblclick()
    expect(tab.locator(".jp-NotebookPanel:visible .jp-Notebook")).to_be_visible()


def run_to_the_end(tab: Page, deadline: Deadline) -> None:
    """Run all cells from the menu; fail at the first error, and when there is no time left."""
    expect(tab.locator("#jp-main-statusbar")).to_contain_text("Python 3 (ipykernel) | Idle")
    expect(tab.locator(".jp-Dialog"), "a notebook opens without a question").to_have_count(0)
    tab.locator(".lm-MenuBar-item", has_text="Run").click()
    tab.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
    while True:
        cells: list[dict[str, Any]] = tab.evaluate(CELLS)
        errors = [f"cell {n}: {error}" for n, cell in enumerate(cells) for error in cell["errors"]]
        assert not errors, errors
        if all(cell["ran"] for cell in cells):
            return
        done = sum(cell["ran"] for cell in cells)
        deadline.left(f"{done} of {len(cells)} cells have run")
        tab.wait_for_timeout(300)


def checks_are_shown(tab: Page, section: str) -> None:
    labels = re.findall(r'^check\w*\("([\w-]+)"', (CHAPTERS / section).read_text("utf8"), re.M)
    assert labels, f"{section} has no check"
    for label in labels:
        line = tab.locator(".rl-check").filter(has_text=label).first
        expect(line.locator(".rl-check-mark"), f"the check of {label}").to_have_text("✓")
        line.scroll_into_view_if_needed()
        expect(line).to_be_visible()


def slider_moves_its_figure(tab: Page) -> None:
    output = tab.locator(LIVE).first
    output.scroll_into_view_if_needed()
    readout, before = output.locator(".widget-readout").first, tab.evaluate(FIGURE)
    value = readout.inner_text()
    assert before[1].startswith("data:image/png"), "the figure is a picture"
    output.get_by_role("slider").first.press("ArrowRight")
    expect(readout, "the slider's value").not_to_have_text(value, timeout=REACTION * 1000)
    try:
        moved = f"(before) => ({FIGURE})().every((part, i) => part !== before[i])"
        tab.wait_for_function(moved, arg=before, timeout=REACTION * 1000)
    except TimeoutError:
        pytest.fail(f"the slider moves no figure: {before[0]}", pytrace=False)


def notebook(path: Path) -> NotebookNode:
    return jupytext.read(path, fmt="md:myst")


def in_solutions(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The code cells between a solution's gates."""
    found, inside = [], False
    for cell in cells:
        if cell.cell_type == "code":
            found += [cell] if inside else []
        for gate in re.findall(r"\{solution-(start|end)\}", cell.source):
            inside = gate == "start"
    return found


def reads_like_its_page(tab: Page, section: str) -> None:
    panel = tab.locator(".jp-NotebookPanel:visible")
    cells = notebook(CHAPTERS / section).cells
    targets = {
        label: target
        for label, target in labels.labels()["labels"].items()
        if target["page"] == f"chapters/{section}"
    }
    kinds = {target["kind"] for target in targets.values()}
    assert {"equation", "figure", "exercise"} < kinds
    assert kinds & {"definition", "theorem", "algorithm"}, f"{section} has no box"

    # Its figures have their captions, and their code is folded, as that of solutions is.
    figures = [cell for cell in cells if "hide-input" in cell.metadata.get("tags", [])]
    assert figures
    expect(panel.locator(".rl-caption")).to_have_count(
        sum("figure" in cell.metadata.get("mystnb", {}) for cell in cells)
    )
    solutions = in_solutions(cells)
    assert solutions
    folded = panel.locator(".jp-CodeCell .jp-InputPlaceholder:visible")
    expect(folded).to_have_count(len(figures) + len(solutions))

    # Every number is the site's; what is shown once more only refers to it.
    shown = tab.evaluate(TEXTS)
    for label, target in targets.items():
        name = f"{target['name']} {target['number']}"
        wanted = {"section": target["number"], "equation": f"({target['number']})"}
        assert any(wanted.get(target["kind"], name) in text for text in shown), label
    for text in shown:
        found = RAW.search(text)
        assert not found, f"shown raw: {text[max(0, found.start() - 40) : found.end() + 40]!r}"
    boxes = panel.locator(".myst aside")
    numbered = boxes.filter(has_text=re.compile(r"^(Definition|Theorem|Algorithm|Exercise) \d"))
    expect(numbered).to_have_count(sum(t["kind"] not in NOT_IN_A_BOX for t in targets.values()))
    expect(boxes.filter(has_not_text=re.compile(r"\S")), "an empty box").to_have_count(0)


def save_changes_no_content(tab: Page, book: Path, section: str) -> None:
    path = book / "chapters" / section
    before, when = path.read_text("utf8"), path.stat().st_mtime_ns
    tab.keyboard.press("Control+s")
    while path.stat().st_mtime_ns == when:
        tab.wait_for_timeout(100)
    opened, saved = jupytext.reads(before, fmt="md:myst"), notebook(path)
    for one, two in zip(opened.cells, saved.cells, strict=True):
        assert (one.cell_type, one.source) == (two.cell_type, two.source)
        assert one.metadata == two.metadata, "a fold or another state of the window was saved"


def reference_leads_to_its_figure(tab: Page) -> None:
    link = tab.locator(".jp-NotebookPanel:visible .myst a[href*='#']", has_text="Figure ").last
    number = link.text_content() or ""
    link.scroll_into_view_if_needed()
    link.click()
    caption = tab.locator(".jp-NotebookPanel:visible .jp-Cell:has(.rl-caption)")
    expect(caption.filter(has_text=number)).to_be_in_viewport()


def link_opens_the_other_page(tab: Page, section: str) -> None:
    elsewhere = ".md']:not([href*='#'])"  # a link to a figure of this page names its cell
    link = tab.locator(f".jp-NotebookPanel:visible .myst a[href*='{elsewhere}").first
    link.scroll_into_view_if_needed()
    words = link.text_content() or ""
    link.click()
    tab.wait_for_function(
        "(section) => !jupyterapp.shell.currentWidget.context.path.endsWith(section)", arg=section
    )
    expect(tab.locator(".jp-NotebookPanel:visible .myst h1").first, words).to_be_visible()
    expect(tab.locator(".jp-Dialog"), "a page opens without a question").to_have_count(0)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_runs_in_jupyterlab_and_its_slider_is_live(
    section: str, chromium_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = Deadline()
    book = tmp_path / "book"
    shutil.copytree(CHAPTERS, book / "chapters")
    with (
        jupyterlab(book, deadline, monkeypatch) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        lost: list[str] = []

        def listen(message: ConsoleMessage) -> None:
            if message.type == "error" and LOST.search(message.text):
                lost.append(message.text)

        tab.on("console", listen)
        steps = {
            "opening the section": lambda: open_section(tab, address, section),
            "running its cells": lambda: run_to_the_end(tab, deadline),
            "looking for its checks": lambda: checks_are_shown(tab, section),
            "reading it": lambda: reads_like_its_page(tab, section),
            "moving its slider": lambda: slider_moves_its_figure(tab),
            "saving it": lambda: save_changes_no_content(tab, book, section),
            "following a reference": lambda: reference_leads_to_its_figure(tab),
            "following a link": lambda: link_opens_the_other_page(tab, section),
        }
        for step, take in steps.items():
            with patience(deadline.left(step), tab):
                take()
        assert not lost, lost
        browser.close()
