"""References by number say what Sphinx says, and each page is read once for all of them."""

from collections import Counter
from pathlib import Path

import pytest
from sphinx.environment import BuildEnvironment

from tests.book.books import build, html, project

pytestmark = pytest.mark.filterwarnings("ignore")

FIGURE = "# Shown\n\n```{figure} picture.svg\n:name: fig-shown\n\nA picture.\n```\n"
TEXT = "# Text\n\n" + "See {numref}`fig-shown` or {numref}`picture {number} <fig-shown>`.\n\n" * 3
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'


@pytest.mark.parametrize("with_ours", [False, True])
def test_each_page_is_read_once_for_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_ours: bool
) -> None:
    read, original = Counter[str](), BuildEnvironment.get_doctree

    def get_doctree(env: BuildEnvironment, docname: str) -> object:
        read[docname] += 1
        return original(env, docname)

    monkeypatch.setattr(BuildEnvironment, "get_doctree", get_doctree)
    ours = ', "extensions.references"' if with_ours else ""
    conf = f'extensions = ["myst_nb"{ours}]\nnumfig = True\nexclude_patterns = ["_build"]\n'
    folder = project(tmp_path, {"shown": FIGURE, "text": TEXT}, conf)
    (folder / "picture.svg").write_text(PICTURE)
    status, log = build(folder, "-W")
    assert status == 0, log
    page = html(folder, "text")
    for said in ("Fig. 1.1", "picture 1.1"):
        link = f'href="shown.html#fig-shown"><span class="std std-numref">{said}</span></a>'
        assert page.count(link) == 3
    # For the page's own writing, its figures' numbers, and its place in the contents.
    others = read["text"]
    assert read["shown"] == others + (1 if with_ours else 6)
