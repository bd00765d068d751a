"""What a page carries of other pages, so that a reference can be read without leaving the line."""

from __future__ import annotations

from pathlib import Path

from extensions.previews import add_previews, element, preview

EQUATION = (
    '<div class="math notranslate" id="equation-eq-a">\n<div class="math-scroll">a &lt; b</div>'
    '<span class="eqno">(1.1)<a class="headerlink" href="#equation-eq-a">#</a></span></div>'
)
OTHER = f"""<main><article><section id="sec-other"><p>Text.</p></section>
<div class="checked-equation">{EQUATION}<a class="check-mark" href="#check">✓</a></div>
<figure class="align-default" id="fig-a"><div class="explore"><div class="explore-figure"><svg/></div>
<div class="explore-controls">slider</div></div>
<figcaption><p>Drawn <a href="#x">here</a>.</p></figcaption></figure>
<div class="proof theorem admonition" id="thm-a"><div class="proof-content">True.</div></div>
</article></main>"""


def page(*links: str) -> str:
    references = "".join(f'<p><a class="reference internal" href="{x}">x</a></p>' for x in links)
    return f"<body><article>{references}</article>\n</body></html>"


def site(folder: Path, *links: str) -> Path:
    (folder / "part").mkdir(exist_ok=True)
    (folder / "part" / "other.html").write_text(OTHER)
    (folder / "page.html").write_text(page(*links))
    return folder / "page.html"


def test_an_element_ends_where_it_ends() -> None:
    text = '<div><div id="a"><div>1</div><p>2</p></div><div>3</div></div>'
    assert element(text, ' id="a"') == '<div id="a"><div>1</div><p>2</p></div>'
    assert element(text, ' id="b"') == ""
    assert element('<p><b id="a">never closed', ' id="a"') == ""


def test_a_preview_has_neither_links_nor_names() -> None:
    assert preview(OTHER, "equation-eq-a") == (
        '<div class="math notranslate">\n<div class="math-scroll">a &lt; b</div>'
        '<span class="eqno">(1.1)</span></div>'
    )
    figure = preview(OTHER, "fig-a")
    assert figure == ("<figcaption><p>Drawn here.</p></figcaption>")
    assert "True." in preview(OTHER, "thm-a")


def test_sections_and_missing_places_have_no_preview() -> None:
    assert preview(OTHER, "sec-other") == ""
    assert preview(OTHER, "nowhere") == ""
    assert preview("", "nowhere") == ""


def test_a_page_carries_each_target_once_and_its_own_not_at_all(tmp_path: Path) -> None:
    to = "part/other.html#equation-eq-a"
    path = site(tmp_path, to, to, "#equation-eq-own", "part/other.html#sec-other", "gone.html#eq")
    add_previews(tmp_path)
    text = path.read_text()
    assert text.count("<template") == 1
    assert f'<template class="preview" data-for="{to}"><div class="math' in text
    assert text.endswith("</template>\n</body></html>")


def test_tables_of_equations_need_no_previews(tmp_path: Path) -> None:
    path = site(tmp_path, "part/other.html#equation-eq-a")
    link = '<a class="reference internal" href="part/other.html#equation-eq-a">(1.1)</a>'
    for name in ("check-ledger table-scroll", "equation-index"):
        table = f'<div class="{name}"><table><tr>{link}</tr></table></div>'
        path.write_text(f"<body><article>{table}</article></body>")
        add_previews(tmp_path)
        assert "<template" not in path.read_text()


def test_previews_follow_the_pages(tmp_path: Path) -> None:
    path = site(tmp_path, "part/other.html#equation-eq-a")
    add_previews(tmp_path)
    first = path.read_text()
    add_previews(tmp_path)
    assert path.read_text() == first, "a second look changes nothing"
    (tmp_path / "part" / "other.html").write_text(OTHER.replace("a &lt; b", "a &gt; b"))
    add_previews(tmp_path)
    assert path.read_text() == first.replace("a &lt; b", "a &gt; b")
    (tmp_path / "part" / "other.html").write_text("<article></article>")
    add_previews(tmp_path)
    assert "<template" not in path.read_text()
