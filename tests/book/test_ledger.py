"""The ledger shows the checks that ran, and each lint names file and label."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extensions import ledger, lints
from rl_helpers import records
from rl_helpers.checks import check
from tests.book.books import CONF, build, cell, html, line_of, project, section

pytestmark = pytest.mark.filterwarnings("ignore")

LEDGER_CONF = CONF.replace(
    '["extensions.execution"]',
    (
        '["extensions.ledger", "sphinx_exercise", "sphinxcontrib.bibtex"]\n'
        'bibtex_bibfiles = ["references.bib"]\n'
        'myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]\n'
        "numfig = True\n"
        "nitpicky = True\n"
    ),
)
# Stands for rl_helpers: leaves the records that checks and explorers leave, and computes nothing.
HELPERS = """
from IPython.display import display

def check(label, anchor=None, **mistakes):
    anchor = anchor or f"check-{label}"
    record = {"label": label, "anchor": anchor, "kind": "exact", "tolerance": "1e-10"}
    data = {"text/plain": label, "text/html": f"<div id='{anchor}'>{label}</div>"}
    display(data, raw=True, metadata={"rl_check": {**record, "mistakes": mistakes}})

def finding(name, margin="5.0"):
    record = {"name": name, "anchor": f"finding-{name}", "effect": "2.00 ± 0.40", "margin": margin,
              "interval": "1.20 to 2.80", "over": "16 seeds", "bound": "above 0"}
    data = {"text/plain": name, "text/html": f"<div id='finding-{name}'>{name}</div>"}
    display(data, raw=True, metadata={"rl_finding": record})

def record(**numbers):
    for name, value in numbers.items():
        metadata = {"rl_number": {"name": name, "value": value}}
        metadata["scrapbook"] = {"name": f"{name} = {value}", "mime_prefix": "unseen/"}
        display({"unseen/text/plain": repr(value)}, raw=True, metadata=metadata)

def explore(name, alt, runs=()):
    data = {"text/plain": alt, "text/html": f"<svg aria-label='{alt}'></svg>", "image/png": PIXEL}
    display(data, raw=True, metadata={"rl_figure": {"name": name, "alt": alt, "runs": runs}})

def bare():
    display({"text/plain": "<Figure>", "image/png": PIXEL}, raw=True)

RUNS = {"seeds": 16, "band": [10, 90]}
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAA"
         "SUVORK5CYII=")
"""
IMPORT = cell("from rl_helpers import *")
LEDGER = (
    "# Ledger\n\n```{check-ledger}\n```\n\n```{finding-ledger}\n```\n\n```{bibliography}\n```\n"
)
BIB = "@book{used, title = {Used}, author = {A}, year = 1, publisher = {P}}\n"


def equation(label: str, latex: str = "a = b") -> str:
    return f"\n$$\n{latex}\n$$ ({label})\n"


def figure(name: str, caption: str, code: str) -> str:
    return cell(code, f':mystnb: {{figure: {{caption: "{caption}", name: {name}}}}}\n\n')


def exercise(label: str, solved: bool = True) -> str:
    begin = f"\n:::{{exercise-start}} Do it\n:label: ex-{label}\n:::\n"
    begin += "Do it.\n:::{exercise-end}\n:::\n"
    solution = f"\n:::{{solution-start}} ex-{label}\n:label: sol-{label}\n:::\nDone.\n"
    return begin + (solution + cell("2 + 2") + "\n:::{solution-end}\n:::\n" if solved else "")


def write(folder: Path, pages: dict[str, str], bib: str = BIB) -> Path:
    pages = {**pages, "ledger": LEDGER}
    project(folder, pages, LEDGER_CONF, HELPERS)
    (folder / "references.bib").write_text(bib)
    return folder


CLEAN = section(
    "Clean",
    "As {cite}`used` says in {eq}`eq-one` and {numref}`fig-line` shows:",
    IMPORT,
    equation("eq-one", "a < b"),
    cell('check("eq-one", wrong="off by 0.5", worse="off by 2")'),
    ":::{note}\n" + equation("eq-two") + ":::\n",
    "$$\nx\n$$",
    cell('check("eq-two", wrong="off by 1")\ncheck("eq-two", "check-eq-two-2", wrong="off by 3")'),
    "It drifts by {run}`drift:.1f`, of {fact}`475`; one wins by {run}`one-wins`.",
    cell("record(drift=-0.4321, seeds=2000)"),
    figure(
        "fig-line",
        "A line, {run}`seeds` seeds, band from the 10th to the 90th percentile",
        'explore("line", "A line that rises", [{"seeds": 2000, "band": [10, 90]}])',
    ),
    cell('finding("one-wins")\nfinding("two-wins", "12")'),
    *(exercise(label) for label in "abc"),
)


# A page with code above another is no section, and owes no exercises.
LEADING = section("Leads on", cell("1"), "```{toctree}\nbelow\n```")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A book with nothing wrong in it, built once."""
    pages = {"part/clean": CLEAN, "part/leading": LEADING}
    folder = write(tmp_path_factory.mktemp("clean"), pages)
    totals = "```{check-ledger}\n:totals:\n```\n"
    (folder / "part" / "below.md").write_text(f"# Below\n\n{totals}")
    return folder, *build(folder, "-W", "--keep-going")


def test_a_clean_book_has_no_warning(clean: tuple[Path, int, str]) -> None:
    _, status, log = clean
    assert status == 0, log
    assert "WARNING" not in log


def test_marks_link_to_checks(clean: tuple[Path, int, str]) -> None:
    page = html(clean[0], "part/clean")
    said = "Checked: exact, tolerance 1e-10, 2 mistakes rejected"
    assert re.search(
        rf'<div class="checked-equation">\s*<div class="math[^>]* id="equation-eq-one">.*?'
        rf'<a aria-label="{said}" class="check-mark" href="#check-eq-one" title="{said}">',
        page, re.DOTALL,
    )  # fmt: skip
    assert page.count('id="equation-eq-one"') == 1
    assert page.count("checked-equation") == 2, "an equation without a label has no mark"
    assert "id='check-eq-one'" in page


def test_numbers_are_quoted_in_prose_and_captions(clean: tuple[Path, int, str]) -> None:
    page = html(clean[0], "part/clean")
    assert "It drifts by −0.4, of 475; one wins by 2.00 ± 0.40." in page
    assert "A line, 2,000 seeds, band from" in page
    assert "unseen" not in page
    assert "-0.4321" not in page.partition("record")[2].partition("</pre>")[2]


def test_quotes_follow_the_run(clean: tuple[Path, int, str]) -> None:
    folder, *_ = clean
    path = folder / "part" / "clean.md"
    path.write_text(path.read_text().replace("drift=-0.4321", "drift=0.77"))
    status, log = build(folder, "-W", "--keep-going")
    assert status == 0, log
    assert "It drifts by 0.8, of 475" in html(folder, "part/clean")


def test_the_ledger_shows_each_check(clean: tuple[Path, int, str]) -> None:
    page = html(clean[0], "ledger")
    assert "2 equations, 3 checks (3 exact), 4 mistakes rejected." in page
    assert page.count('scope="col"') == 6 + 7
    assert page.count('scope="row"') == 2 + 2
    assert page.count('rowspan="2"') == 3, "two checks of one equation share its three cells"
    for anchor in ["check-eq-one", "check-eq-two", "check-eq-two-2"]:
        assert f'href="part/clean.html#{anchor}"' in page
    assert "<li>worse: off by 2</li>" in page
    assert 'href="part/clean.html#equation-eq-two">(1.2)</a>' in page
    assert 'id="equation-' not in page, "the equation's id belongs to its section"
    assert "a &lt; b" in page


def test_a_page_shows_the_totals_alone(clean: tuple[Path, int, str]) -> None:
    page = html(clean[0], "part/below")
    assert "2 equations, 3 checks (3 exact), 4 mistakes rejected." in page
    assert "check-ledger" not in page


def test_the_ledger_shows_each_finding(clean: tuple[Path, int, str]) -> None:
    page = html(clean[0], "ledger")
    assert "2 findings." in page
    found = re.search(
        r'<tr>\s*<th scope="row"><a href="part/clean.html#finding-two-wins.*?</tr>', page, re.S
    )
    assert found
    cells = [
        re.sub("<[^>]+>", "", x).strip() for x in re.findall(r"<t[hd].*?</t[hd]>", found[0], re.S)
    ]
    assert cells == [
        "two-wins", "Clean", "2.00 ± 0.40", "1.20 to 2.80", "16 seeds", "above 0", "12 standard errors"
    ]  # fmt: skip


def test_the_ledger_follows_the_sections(clean: tuple[Path, int, str]) -> None:
    folder, *_ = clean
    path = folder / "part" / "clean.md"
    path.write_text(path.read_text().replace('worse="off by 2"', 'worst="off by 9"'))
    status, log = build(folder, "-W", "--keep-going")
    assert status == 0, log
    assert "<li>worst: off by 9</li>" in html(folder, "ledger")
    path.write_text(path.read_text().replace('"two-wins", "12"', '"two-wins", "13"'))
    status, log = build(folder, "-W", "--keep-going")
    assert status == 0, log
    assert "<td>13 standard errors</td>" in html(folder, "ledger")


FAULTY = section(
    "Faulty",
    IMPORT,
    equation("eq-unchecked"),
    equation("eq-idle"),
    equation("Wrong"),
    "\\begin{align}\na &= b\n\\end{align}\n",
    cell('check("eq-idle")'),
    cell('check("eq-elsewhere", wrong="off by 1")'),
    equation("eq-hidden"),
    cell('check("eq-hidden", "check-eq-idle", wrong="1")', ":tags: [remove-output]\n\n"),
    cell('finding("one-wins")'),
    cell('1\nfinding("two-wins")', ":tags: [remove-output]\n\n"),
    cell("record(drift=0.5, seeds=16)\nrecord(drift=0.6)"),
    "Quoted: {run}`drif:.1f`.\n",
    figure("fig-band", "A band, {run}`seeds:d`", 'explore("band", "A band", [RUNS])'),
    "See {numref}`fig-band`.\n",
    figure("fig-silent", "Only {numref}`fig-silent` mentions it", 'explore("silent", alt="")'),
    cell('explore("naked", alt="Fine")'),
    cell("bare()"),
    cell("print(object())"),
    cell('import sys\nprint("look out", file=sys.stderr)'),
    "![](dot.png)\n",
    ":::{figure} dot.png\nA caption\n:::\n",
    exercise("open", solved=False),
)
AGAIN = section("Again", IMPORT, cell('finding("one-wins")  # again'), *map(exercise, "def"))
ASIDE = f"# Aside\n\nQuoted: {{run}}`seeds`.\n{equation('eq-idle')}{equation('eq-aside')}"
EXPECTED = [  # page, text of its line (None: any line), message
    ("part/faulty", "(eq-unchecked)", "equation eq-unchecked has no check; a labelled"),
    ("part/faulty", "(Wrong)", "equation label 'Wrong'; allowed are eq- and lower-case words"),
    ("part/faulty", None, "a numbered amsmath environment cannot be checked"),
    ("aside", "(eq-idle)", "equation eq-idle is displayed in part/faulty already"),
    ("aside", "(eq-aside)", "equation eq-aside has no check"),
    ("part/faulty", 'check("eq-idle")', "check of eq-idle rejects no mistake; at least one"),
    ("part/faulty", 'check("eq-elsewhere"', "check of eq-elsewhere, which this page does not"),
    ("part/faulty", 'check("eq-hidden"', "check of eq-hidden is hidden; it must be shown"),
    ("part/faulty", 'check("eq-hidden"', "check of eq-hidden: anchor check-eq-idle twice"),
    ("again", "# again", "finding one-wins stands in part/faulty.md:"),
    ("part/faulty", 'finding("two-wins")', "finding two-wins is hidden; it must be shown"),
    ("part/faulty", "drift=0.5", "drift is recorded twice in this section; quotes need one"),
    (
        "part/faulty",
        "Quoted",
        "{run}`drif:.1f`: nothing is recorded as 'drif' in this section; "
        "names are: drift, one-wins, seeds, two-wins",
    ),
    (
        "part/faulty",
        "{run}`seeds:d`",
        "{run}`seeds:d`: the format 'd' does not exist; allowed are .1f, .2g",
    ),
    ("part/faulty", "name: fig-band", "the caption of fig-band does not say its 16 seeds"),
    (
        "part/faulty",
        "name: fig-band",
        "the caption of fig-band does not say its band from the 10th",
    ),
    (
        "aside",
        "Quoted",
        "{run}`seeds`: nothing is recorded as 'seeds' in this section; names are: none",
    ),
    ("part/faulty", "name: fig-silent", "figure fig-silent has no mention"),
    ("part/faulty", None, "figure silent has no alt text"),
    ("part/faulty", None, "figure naked has no label and caption"),
    ("part/faulty", None, "output image/png is a bare figure; allowed are those of Explore"),
    ("part/faulty", None, "output has the memory address 0x"),
    ("part/faulty", None, "a cell must not write to stderr, but wrote: look out"),
    ("part/faulty", "![](dot.png)", "image part/dot.png has no alt text"),
    ("part/faulty", "![](dot.png)", "image part/dot.png is not in a figure"),
    ("part/faulty", None, "figure A caption has no label (name: fig-…)"),
    ("part/faulty", ":label: ex-open", "exercise ex-open has no solution on its page"),
    ("part/faulty", None, "the section has 1 of the 3 exercises it needs"),
]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A book with each fault once; built twice, for the second build must find them again."""
    unused = BIB.replace("used", "unused")
    folder = tmp_path_factory.mktemp("faulty")
    write(folder, {"part/faulty": FAULTY, "again": AGAIN, "aside": ASIDE}, BIB + unused)
    (folder / "part" / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert build(folder)[0] == 0
    status, log = build(folder, "-W", "--keep-going")
    assert status == 1
    return folder, log


@pytest.mark.parametrize(("name", "text", "message"), EXPECTED)
def test_lints(faulty: tuple[Path, str], name: str, text: str | None, message: str) -> None:
    folder, log = faulty
    line = str(line_of(folder, name, text)) if text else r"\d*"
    assert re.search(rf"{name}\.md:{line}(:| ).*WARNING: {re.escape(message)}", log), log


def test_the_first_place_of_a_finding_is_named(faulty: tuple[Path, str]) -> None:
    first = line_of(faulty[0], "part/faulty", 'finding("one-wins")')
    assert f"stands in part/faulty.md:{first} already; a name is allowed once" in faulty[1]


def test_an_unused_bibliography_key_is_named(faulty: tuple[Path, str]) -> None:
    assert re.search(r"references\.bib:2: WARNING: unused is not cited anywhere", faulty[1])


def test_no_other_lint_fires(faulty: tuple[Path, str]) -> None:
    messages = [message for _, _, message in EXPECTED]
    own = [row for row in faulty[1].splitlines() if re.search(r"WARNING: .*\[book\]", row)]
    others = [row for row in own if not any(message in row for message in messages)]
    assert len(others) <= 2, others  # the two bibliography keys
    assert all("is not cited" in row for row in others)


def test_the_records_of_checks_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(records, "display", lambda data, raw, metadata: shown.append(metadata))
    monkeypatch.setattr(records.InteractiveShell, "initialized", lambda: True)
    one = np.ones(1)
    check("eq-a", one, one, mistakes={"two": 2 * one})
    record = lints.record({"metadata": shown[0]}, "rl_check")
    assert record is not None
    assert record["label"] == "eq-a"
    assert record["anchor"].startswith("check-eq-a")
    assert ledger.summary(record) == "Checked: exact, tolerance 1e-10, 1 mistake rejected"
    assert ledger.totals([{"checks": [record]}]) == (
        "1 equation, 1 check (1 exact), 1 mistake rejected."
    )


def test_counts() -> None:
    assert ledger.count(1, "check") == "1 check"
    assert ledger.count(1200, "check") == "1,200 checks"
    assert ledger.totals([]) == "0 equations, 0 checks, 0 mistakes rejected."
