"""The document that is printed: pages joined, names their own, links inside, solutions at the end."""

import re
from pathlib import Path

import pikepdf
import pytest
from lxml import html

from tools.pdf import MARK, NAME, Entry, Site, joined, link

NAV = """<nav id="book-nav"><a class="book-title" href="first.html">A book</a>
<ul><li><a href="#">A book</a></li></ul>
<p class="caption"><span>Part I</span></p>
<ul><li><a href="part/index.html">1 Part</a>
<ul><li><a href="part/one.html">1.1 One</a></li></ul></li></ul></nav>"""
FORMULA = """<span class="katex"><span class="katex-mathml"><math><mi>x</mi>
<annotation encoding="application/x-tex">x \\le 1</annotation></math></span>
<span class="katex-html" aria-hidden="true">x≤1</span></span>"""
FIRST = f"""<section id="a"><h1>A book</h1>{FORMULA}
<p>See <a href="part/one.html#eq">(1.1)</a>, <a href="part/index.html">Part</a>,
<a href="elsewhere.ipynb">a file</a> and <a href="https://example.org/">a site</a>.</p>
<div class="check-ledger table-scroll"><table>
<tr><th scope="row"><a href="part/one.html#eq">(1.1)</a></th>
<td><a href="part/one.html#check-eq">exact</a></td></tr></table></div></section>"""
ONE = """<section id="a"><h1>One<a class="headerlink" href="#a">#</a></h1>
<div class="math" id="eq"><div class="math-scroll">y</div></div>
<div class="rl-check" id="check-eq"><span class="rl-check-mark" aria-hidden="true">✓</span> eq</div>
<details class="admonition hide above-input"><summary>Code of this figure</summary>secret()</details>
<details><summary>Whole source</summary>whole()</details>
<figure id="fig-a"><div class="explore"><div class="explore-figure" role="img" aria-label="It rises.">
<svg viewBox="0 0 1 1"><defs><clipPath id="c"></clipPath></defs>
<g clip-path="url(#c)"></g><use xlink:href="#c"/></svg></div>
<div class="explore-controls" hidden><div class="explore-control"><label for="s">ε</label>
<input id="s"><output for="s">0.2</output></div></div>
<script type="application/json">{}</script></div></figure>
<h2>Exercises</h2>
<div class="exercise admonition" id="ex-a"><p class="admonition-title">
<span class="caption-number">Exercise 1.1.1 </span> By hand</p><p>Why?</p></div>
<details class="admonition solution dropdown" id="sol-a">
<summary class="admonition-title">Solution</summary><p>Because.</p></details>
<p>After.</p></section>"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "index.html").write_text('<meta content="0; url=chapters/first.html">')
    pages = {"first": FIRST, "part/index": "<h1>Part</h1>", "part/one": ONE}
    for name, body in pages.items():
        up = "../" * name.count("/")
        nav = NAV if name == "first" else NAV.replace('href="', f'href="{up}')
        path = tmp_path / "chapters" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<html><body>{nav}<main><div class="body">{body}</div></main>'
            f'<footer class="foot"><p>Rights.</p><p>{MARK}</p></footer></body></html>'
        )
    return Site(tmp_path)


def test_the_contents_are_those_of_the_first_page(site: Site) -> None:
    assert list(site.entries.values()) == [
        Entry("chapters/first.html", "A book", 1),
        Entry("chapters/part/index.html", "1 Part", 1, "Part I"),
        Entry("chapters/part/one.html", "1.1 One", 2),
    ]


def test_every_name_is_given_once_and_every_link_inside_leads_to_one(site: Site) -> None:
    document = html.fromstring(joined(site))
    names = document.xpath("//@id")
    assert len(names) == len(set(names))
    inside = [href[1:] for href in document.xpath("//@href") if href.startswith("#")]
    assert set(inside) <= set(names)
    assert {"chapters-part-one--eq", "chapters-part-index"} <= set(inside)
    clip = document.xpath("//@clip-path")[0]
    assert clip.removeprefix("url(#").removesuffix(")") in names


def test_links_out_of_the_book_stay_and_links_to_files_of_an_unknown_site_go(site: Site) -> None:
    document = joined(site)
    assert "https://example.org/" in document
    assert "elsewhere.ipynb" not in document
    first = site.folder / "chapters" / "first.html"
    canonical = '<link rel="canonical" href="https://b.org/chapters/first.html">'
    first.write_text(first.read_text().replace("<html>", f"<html><head>{canonical}</head>"))
    document = joined(Site(site.folder))
    assert 'href="https://b.org/chapters/elsewhere.ipynb"' in document
    assert 'href="https://b.org/chapters/part/one.html#fig-a"' in document, "of the explorer"


def test_solutions_are_at_the_end_and_know_their_exercise(site: Site) -> None:
    document = html.fromstring(joined(site))
    (solution,) = document.xpath('//section[@id="solutions"]//div[@class="solution"]')
    assert "Because." in solution.text_content()
    assert "Because." not in document.get_element_by_id("chapters-part-one").text_content()
    assert "After." in document.get_element_by_id("chapters-part-one").text_content()
    (back, page) = solution.xpath(".//a")
    assert back.text_content() == "Exercise 1.1.1"
    assert back.get("href") == page.get("href") == "#chapters-part-one--ex-a"
    exercise = document.get_element_by_id("chapters-part-one--ex-a")
    assert exercise.xpath(".//a/@href") == ["#chapters-part-one--sol-a"]


def test_a_solution_without_an_exercise_is_named(site: Site) -> None:
    page = site.folder / "chapters" / "part" / "one.html"
    page.write_text(page.read_text().replace("exercise admonition", "admonition"))
    with pytest.raises(AssertionError, match="sol-a follows no exercise"):
        joined(site)


def test_an_explorer_says_what_it_shows_and_the_code_of_figures_is_left_out(site: Site) -> None:
    document = joined(site)
    words = " ".join(html.fromstring(document).text_content().split())
    assert "Shown at ε = 0.2. Move it in the web book." in words
    for gone in ("secret()", "whole()", "<input", "<script", "headerlink"):
        assert gone not in document


def test_a_check_leads_to_its_row_of_the_ledger(site: Site) -> None:
    document = html.fromstring(joined(site))
    (mark,) = document.xpath('//a[@class="rl-check-mark"]')
    row = document.get_element_by_id(mark.get("href")[1:])
    assert row.tag == "tr"
    assert "exact" in row.text_content()


def test_a_formula_is_read_as_its_source_and_stands_there_once(site: Site) -> None:
    (formula,) = html.fromstring(joined(site)).xpath('//span[@class="katex"]')
    assert formula.get("aria-label") == r"x \le 1"
    assert formula.text_content().split() == ["x≤1"]
    assert not formula.xpath(".//@aria-hidden")


def test_headings_have_their_rank_in_the_book(site: Site) -> None:
    document = html.fromstring(joined(site))
    ranks = {node.text_content(): node.tag for node in document.xpath("//h1 | //h2 | //h3")}
    expected = {"A book": "h1", "Part": "h1", "One": "h2", "Exercises": "h3", "Solutions": "h1"}
    assert ranks == expected | {"1.1 One": "h2"}


def test_pages_link_to_a_pdf_only_when_it_is_there(site: Site, tmp_path: Path) -> None:
    made = tmp_path / "made.pdf"
    file = pikepdf.new()
    for _ in range(7):
        file.add_blank_page()
    file.save(made)
    one = site.folder / "chapters" / "part" / "one.html"
    assert NAME not in one.read_text()
    for _ in range(2):  # the second time it changes nothing
        link(site, made)
        found = re.findall(
            r'<a href="([^"]*)">The book as a PDF</a> \(7 pages, 0 MB\)', one.read_text()
        )
        assert [(one.parent / href).resolve() for href in found] == [site.folder / NAME]
    assert (site.folder / NAME).read_bytes() == made.read_bytes()
