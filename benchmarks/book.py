"""Measure the book's build, pages, sliders and planner: make bench-book.

Prints a table of all pages, and one of what was measured with the figure to reach. The book is built
in a copy, so that nothing of the working folder is touched. `python -m benchmarks.book pages` measures
the pages of the site that was built last, and nothing else.
"""

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, Response, sync_playwright

from tools import chromium, leftovers
from tools.environment import ROOT, variables
from tools.site import (
    EXPLORER,
    LAYOUT_SHIFT,
    OBSERVE,
    PACK,
    build_folder,
    page_weight,
    served,
    weight,
)

SKIPPED = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "_build", ".*_cache", ".hypothesis", "*.egg-info"
)
EDIT = "\n```{code-cell} ipython3\n:tags: [remove-cell]\nedited = True\n```\n"
MEGABYTE = 2**20
PRESSES = 60

# From the key's own time stamp until the frame that shows the changed figure has been rendered: a
# message sent while a frame is prepared arrives after its layout and paint. A key that changes no
# figure is not counted.
TIMER = """
window.times = [];
let pressed = 0;
addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
const watcher = new MutationObserver(() => requestAnimationFrame(() => {
  const channel = new MessageChannel(), start = pressed;
  channel.port1.onmessage = () => times.push(performance.now() - start);
  channel.port2.postMessage(null);
}));
addEventListener("load", () => document.querySelectorAll(".explore-figure").forEach(
  (figure) => watcher.observe(figure, {childList: true, subtree: true})));
"""

Row = tuple[str, str, str]


# ---- The build ----------------------------------------------------------------------------------


def memory(process: psutil.Process) -> int:
    """Memory in use by a process and all its children; what they share counts once on Linux."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                if sys.platform == "linux":
                    total += each.memory_full_info().pss
                else:
                    total += each.memory_info().rss
    return total


def timed_build(book: Path) -> tuple[float, int]:
    """Build the copy; return the seconds taken and the peak memory in bytes."""
    start, peak = time.monotonic(), 0
    env = variables()
    env.pop("BOOK_BUILD_DIR", None)
    command = [sys.executable, "-c", "from tools.build import main; main()"]
    with (book / "build.log").open("w") as log:
        process = psutil.Popen(command, cwd=book, env=env, stdout=log, stderr=log)
        while process.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(0.1)
    if process.returncode:
        sys.exit((book / "build.log").read_text() + "\nThe book does not build.")
    return time.monotonic() - start, peak


def builds(book: Path) -> list[Row]:
    """Time a cold build, an unchanged one, and one after an edited section."""
    cold, peak = timed_build(book)
    unchanged, _ = timed_build(book)
    found = (path for path in leftovers.pages(book) if "kernelspec" in path.read_text())
    section = max(found, key=lambda path: path.stat().st_size)
    section.write_text(section.read_text() + EDIT)
    edited, _ = timed_build(book)
    return [
        ("cold build", f"{cold:.1f} s", "300 s"),
        ("unchanged build", f"{unchanged:.1f} s", "10 s"),
        (f"build after editing {section.stem}", f"{edited:.1f} s", "30 s"),
        ("peak memory of the cold build", f"{peak / MEGABYTE:.0f} MiB", "3072 MiB"),
    ]


# ---- The pages ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """What one visit to a page measured."""

    usable: float  # milliseconds until its sliders answer
    requests: int
    weight: int  # bytes, compressed
    with_packs: int
    shift: float


LOOKS = [(width, theme) for width in (1280, 390) for theme in ("light", "dark")]


def visit(browser: Browser, address: str, width: int, theme: str) -> tuple[Visit, list[float]]:
    """Open a page with an empty cache; return what that measured, and then move its sliders."""
    scheme: Any = theme
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.add_init_script(TIMER + OBSERVE)
    page.goto(address, wait_until="load")
    # Sliders are shown by a deferred script, which has run when the page says that it is loaded.
    usable = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    while not usable:
        usable = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    page.evaluate("document.fonts.ready.then(() => true)")
    page.wait_for_timeout(100)
    shift = float(page.evaluate(LAYOUT_SHIFT))
    whole = sum(weight(response.body()) for response in responses)
    seen = Visit(float(usable), len(responses), page_weight(responses), whole, shift)
    first = (width, theme) == LOOKS[0]
    presses = press_sliders(page) if first else []
    context.close()
    return seen, presses


def press_sliders(page: Page) -> list[float]:
    """Milliseconds from key press to rendered frame, over all sliders of a page."""
    sliders = page.locator(".explore-control input[type=range]")
    for index in range(sliders.count()):
        slider = sliders.nth(index)
        slider.focus()
        slider.press("Home")
        page.wait_for_timeout(100)
        last = int(slider.get_attribute("max") or 1)
        for press in range(PRESSES // sliders.count() + 1):
            forward = (press // last) % 2 == 0
            page.keyboard.press("ArrowRight" if forward else "ArrowLeft")
            page.wait_for_timeout(40)
    page.wait_for_timeout(100)
    return [float(value) for value in page.evaluate("times")]


def pages(site: Path) -> list[Row]:
    """Weigh and time every page, in Chromium, from a local server; print a line for each."""
    found = chromium.find()
    if not found:
        return [("pages", "not measured: " + chromium.MISSING, "")]
    lines = [("page", "kB", "with packs", "requests", "usable, ms", "shift", "key to frame, ms")]
    seen: dict[str, list[Visit]] = {}
    packs: dict[str, int] = {}
    presses: list[float] = []
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        for path in sorted((site / "chapters").rglob("*.html")):
            text, name = path.read_text(), path.relative_to(site / "chapters").as_posix()
            if 'http-equiv="refresh"' in text:
                continue  # it only leads to another
            visits, latencies = [], list[float]()
            for look in LOOKS:  # each in a new context, so that nothing is cached
                measured, pressed = visit(browser, f"{address}chapters/{name}", *look)
                visits.append(measured)
                latencies += pressed
            seen[name] = visits
            presses += latencies
            for explorer, block in zip(
                EXPLORER.findall(text), EXPLORER.split(text)[2::2], strict=True
            ):
                if pack := PACK.search(block):
                    packs[explorer] = weight(pack[1].encode())
            one = visits[0]
            lines.append(
                (
                    name,
                    f"{one.weight / 1000:.0f}",
                    f"{one.with_packs / 1000:.0f}",
                    f"{one.requests}",
                    f"{statistics.median(each.usable for each in visits):.0f}",
                    f"{max(each.shift for each in visits):.4f}",
                    f"{statistics.quantiles(latencies, n=20)[-1]:.0f}" if latencies else "",
                )
            )
        browser.close()
    said = f"median of {len(LOOKS)} visits, widths of 1280 and 390 px, light and dark"
    print(f"\nEvery page, with an empty cache ({said})\n\n{aligned(lines)}")

    def worst(what: str, value: Callable[[list[Visit]], float], form: str, most: str) -> Row:
        name = max(seen, key=lambda page: value(seen[page]))
        return (f"{what}, most: {name}", form.format(value(seen[name])), most)

    rows = [
        worst("weight", lambda visits: visits[0].weight / 1000, "{:.0f} kB", "350 kB"),
        worst("requests", lambda visits: visits[0].requests, "{:.0f}", ""),
        worst("usable", lambda v: statistics.median(x.usable for x in v), "{:.0f} ms", "1000 ms"),
        worst("layout shift", lambda v: max(x.shift for x in v), "{:.4f}", "0.001"),
    ]
    if packs:
        heaviest = max(packs, key=lambda name: packs[name])
        rows.append((f"pack, most: {heaviest}", f"{packs[heaviest] / 1000:.0f} kB", "80 kB"))
    if presses:
        slow = statistics.quantiles(presses, n=20)[-1]
        middle = statistics.median(presses)
        name = f"key press to frame, 95 % of {len(presses)} (median {middle:.0f} ms)"
        rows.append((name, f"{slow:.0f} ms", "33 ms"))
    return rows


# ---- Planning -----------------------------------------------------------------------------------


def planning() -> list[Row]:
    """Time value iteration on a sparse grid, and its memory for each transition."""
    from rl_helpers.mdp.gridworld import gridworld
    from rl_helpers.mdp.planning import value_iteration

    rows: list[Row] = []
    for side in (50, 100, 200):
        layout = ["S" + "." * (side - 1)] + ["." * side] * (side - 2) + ["." * (side - 1) + "G"]
        mdp: Any = gridworld(layout, store_sparse=True).mdp
        start = time.perf_counter()
        plan = value_iteration(mdp, tol=1e-8)
        seconds = time.perf_counter() - start
        tracemalloc.start()
        value_iteration(gridworld(layout, store_sparse=True).mdp, tol=1e-2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        name = f"value iteration, {side * side} states, {plan.steps} sweeps"
        rows.append((name, f"{seconds:.2f} s", "1 s" if side == 100 else ""))
        per = f"{peak / mdp.P.nnz:.0f} B"
        rows.append((f"  peak memory a transition ({mdp.P.nnz} transitions)", per, "constant"))
    return rows


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """The rows in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure everything, or the pages alone, and print the tables."""
    if arguments == ["pages"]:
        rows = pages(build_folder() / "html")
    else:
        with tempfile.TemporaryDirectory() as folder:
            book = Path(folder) / "book"
            shutil.copytree(ROOT, book, ignore=SKIPPED)
            for name in (".venv", "node_modules"):
                (book / name).symlink_to(ROOT / name)
            print("Building three times in a copy …", flush=True)
            rows = builds(book)
            print("Opening the pages …", flush=True)
            rows += pages(book / "_build" / "html")
        print("\nPlanning …", flush=True)
        rows += planning()
    print("\n" + aligned([("", "measured", "at most"), *rows]))


if __name__ == "__main__":
    main(sys.argv[1:])
