"""What JupyterLab is told of the whole book is what the built pages show."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from extensions.previews import TEMPLATE
from tests.book.browser import text
from tools import labels
from tools.environment import ROOT

TABLE = labels.labels()
# How the site shows the number of what has a label.
SHOWN = {
    "section": r'<span id="{}"></span><h1><span class="section-number">([\d.]+)',
    "equation": r'class="eqno">\(([\d.]+)\)<a class="headerlink" href="#equation-{}"',
    "figure": r'id="{}">(?:(?!</figure>).)*?<span class="caption-number">Figure ([\d.]+)',
    "box": r'id="{}">\s*<p class="admonition-title"><span class="caption-number">(\w+ [\d.]+)',
}


def read(page: str) -> str:
    return TEMPLATE.sub("", text(page.removesuffix(".md") + ".html"))  # without previews


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("label", TABLE["labels"])
def test_a_label_has_the_number_of_the_site(label: str) -> None:
    target = TABLE["labels"][label]
    kind, number = target["kind"], target["number"]
    if kind == "section" and not number:
        assert "section-number" not in re.findall(r"<h1>.*?</h1>", read(target["page"]))[0]
        return
    pattern = SHOWN.get(kind, SHOWN["box"]).format(re.escape(label))
    wanted = number if kind in SHOWN else f"{target['name']} {number}"
    assert re.findall(pattern, read(target["page"]), re.DOTALL) == [wanted]


@pytest.mark.usefixtures("site")
def test_no_number_of_the_site_is_missing() -> None:
    for page in TABLE["pages"]:
        shown = re.findall(r'class="eqno">\(|class="caption-number">', read(page))
        known = [
            t for t in TABLE["labels"].values() if t["page"] == page and t["kind"] != "section"
        ]
        assert len(shown) == len(known), page


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("key", TABLE["sources"])
def test_a_source_is_cited_as_in_the_site(key: str) -> None:
    source = TABLE["sources"][key]
    forms = {
        "p": f"[{source['authors']}, {source['year']}]",
        "t": f"{source['authors']} [{source['year']}]",
    }
    cited = False
    for page in TABLE["pages"]:
        shown = unescape(re.sub(r"<[^>]+>", "", read(page)))
        for role, form in forms.items():
            if f"{{cite:{role}}}`{key}`" in (ROOT / page).read_text("utf8"):
                assert form in re.sub(r"\s+", " ", shown), page
                cited = True
    assert cited
    assert source["full"].endswith(f"{source['year']}.")


def test_pages_are_those_of_the_contents_with_or_without_code() -> None:
    code = {page: target["code"] for page, target in TABLE["pages"].items()}
    assert not code["chapters/notation.md"]
    assert code["chapters/mdp/value-functions.md"]


TOC = """\
root: chapters/intro
parts:
  - chapters: [{file: chapters/before}]
  - numbered: 2
    chapters: [{file: chapters/one, sections: [{file: chapters/a}, {file: chapters/unwritten}]}]
  - numbered: 2
    chapters: [{file: chapters/two, sections: [{file: chapters/b}]}]
"""
BIB = r"""
@book{one, author = {von Neumann, John and Ul{\`a}m, S.}, title = {Games?}, publisher = {P}, year = {1}}
@misc{many, author = {A, B and others}, title = {T {IS}}, year = {2}}
"""


def test_a_small_book(tmp_path: Path) -> None:
    (tmp_path / "chapters").mkdir()
    pages = {
        "intro": "# Intro\n",
        "before": "(sec-before)=\n# Before\n",
        "one": "(sec-one)=\n# One\n",
        "a": "$$ x $$ (eq-x)\n\n$$ y $$\n\n$$\nz\n$$ (eq-z)\n\n```{prf:lemma} Small\n:label: thm-l\n```\n"
        '\n```{code-cell}\n:mystnb: {figure: {name: fig-f, caption: "F"}}\nname = "fig-no"\n```\n',
        "two": "# Two\n",
        "b": ":::{figure} f.svg\n:name: fig-g\n:::\n```{exercise-start} E (easy)\n:label: ex-e\n```\n",
    }
    for name, content in pages.items():
        (tmp_path / "chapters" / f"{name}.md").write_text(content)
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "chapters" / "references.bib").write_text(BIB)
    table: dict[str, Any] = labels.labels(tmp_path)
    numbers = {page: target["number"] for page, target in table["pages"].items()}
    assert [*numbers.values()] == ["", "", "1", "1.1", "2", "2.1"]
    assert "chapters/unwritten.md" not in numbers
    names = {label: f"{t['name']} {t['number']}".strip() for label, t in table["labels"].items()}
    assert names == {
        "sec-before": "Section",
        "sec-one": "Section 1",
        "eq-x": "Equation 1.1.1",
        "eq-z": "Equation 1.1.2",
        "fig-f": "Figure 1.1.1",
        "thm-l": "Lemma 1.1.1",
        "fig-g": "Figure 2.1.1",
        "ex-e": "Exercise 2.1.1",
    }
    assert table["labels"]["thm-l"]["title"] == "Small"
    assert table["sources"] == {
        "many": {"authors": "A et al.", "year": "2", "full": "B A, and others. T IS. 2."},
        "one": {
            "authors": "von Neumann and Ulàm",
            "year": "1",
            "full": "John von Neumann, S. Ulàm. Games? P, 1.",
        },
    }
