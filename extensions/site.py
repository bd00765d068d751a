"""The site: its frame, its own fonts, hidden solutions, and links to where it is published.

Fonts and KaTeX's style sheet come from npm and are copied beside the pages, so a page asks no other
host for anything. The frame around the text is ours (``templates/``, ``assets/``). Hidden solutions
are native ``<details>``, so they open without JavaScript.

``BOOK_SOLUTIONS`` says how solutions are shown: ``folded`` (the default), ``open``, or ``none``, which
leaves them out of the pages, their search and their notebooks, and offers no page's source.

Three environment variables say where the book is published; without them no page links there:
``BOOK_URL`` (canonical addresses, site map), ``BOOK_REPOSITORY`` (edit and issue links, Binder and
Colab) and ``BOOK_BRANCH`` (default ``main``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from docutils import nodes
from pygments.formatters import HtmlFormatter
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment.adapters.toctree import TocTree
from sphinx.writers.html5 import HTML5Translator
from sphinxcontrib import katex

# Style sheets that Sphinx and extensions would add to each page; book.css does their work.
UNUSED = re.compile(r"basic\.css|pygments\.css|mystnb\..*\.css|exercise\.css|proof\.css")
# Code is coloured in both themes; the page's data-theme chooses.
CODE_STYLES = {"light": "a11y-high-contrast-light", "dark": "a11y-high-contrast-dark"}
# What extensions write that accessibility checkers reject, and what they accept.
REPAIRS = {
    'role="doc-biblioentry"': 'role="listitem"',  # as the children of role="list" must be
    '<summary aria-label="Toggle hidden content">': "<summary>",  # it has visible words
}
# Wrong settings end the build with SystemExit: Jupyter Book buries Sphinx's own errors in traces.
SOLUTIONS = ("folded", "open", "none")
NOTEBOOKS_BRANCH = "notebooks"  # where the publishing workflow puts the converted .ipynb files


# ---- Exercises and hidden solutions -------------------------------------------------------------


class Details(nodes.General, nodes.Element):
    """A native ``<details>``."""


class Summary(nodes.General, nodes.TextElement):
    """Its visible line."""


def fold(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn admonitions with class ``dropdown`` into ``<details>``, and tidy exercises and proofs."""
    if app.config.book_solutions == "none":
        for node in [node for node in doctree.findall(nodes.Element) if is_solution(node)]:
            node.parent.remove(node)
    for node in [node for node in doctree.findall(nodes.Element) if is_box(node)]:
        # Their content is wrapped in a section, or the box named, with the same id everywhere.
        node["ids"] = [name for name in node["ids"] if name != "proof"]
        for section in [child for child in node if isinstance(child, nodes.section)]:
            at = node.index(section)
            node[at : at + 1] = section.children
        if not isinstance(node[0], nodes.title):
            if node[0].astext().startswith("Proof. ") and isinstance(node[0][0], nodes.Text):
                rest = nodes.Text(node[0][0].removeprefix("Proof."))
                node[0][:1] = [nodes.emphasis("", "Proof."), rest]
            continue
        title = node[0]
        if "exercise" in node["classes"] and title[-1].astext() == ")":  # "(By hand (5 minutes))"
            start = next(i for i, child in enumerate(title) if child.astext() == " (")
            title[start], title[-1] = nodes.Text(" "), nodes.Text("")
        if "dropdown" in node["classes"]:
            summary = Summary("", "", *title.children)
            details = Details("", summary, *node[1:], classes=["admonition", *node["classes"]])
            details["ids"] = node["ids"]
            details["open"] = app.config.book_solutions == "open" and is_solution(node)
            node.parent[node.parent.index(node)] = details


def wrap_tables(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put each table into a box in which it scrolls alone where it is wider than the page."""
    for table in list(doctree.findall(nodes.table)):
        box = nodes.container("", classes=["table-scroll"])
        table.parent.replace(table, box)  # replace_self would give the box the table's classes
        box.append(table)


def is_box(node: nodes.Element) -> bool:
    """Return whether a node is an admonition, an exercise, a solution, a theorem or a proof."""
    return isinstance(node, nodes.Admonition) or {"proof"} <= set(node["classes"])


def is_solution(node: nodes.Element) -> bool:
    """Return whether a node is the solution of an exercise."""
    return isinstance(node, nodes.Admonition) and "solution" in node["classes"]


def visit_details(self: HTML5Translator, node: Details) -> None:
    """Open ``<details>``."""
    self.body.append(self.starttag(node, "details", **({"open": "open"} if node["open"] else {})))


def depart_details(self: HTML5Translator, node: Details) -> None:
    """Close it."""
    self.body.append("</details>\n")


def visit_summary(self: HTML5Translator, node: Summary) -> None:
    """Open ``<summary>``."""
    self.body.append(self.starttag(node, "summary", "", CLASS="admonition-title"))


def depart_summary(self: HTML5Translator, node: Summary) -> None:
    """Close it."""
    self.body.append("</summary>\n")


# ---- Files from npm -----------------------------------------------------------------------------


def copy_npm_files(app: Sphinx) -> None:
    """Copy KaTeX's style sheet and the fonts that the style sheets name into ``_static``."""
    if app.builder.format != "html":
        return
    modules = Path(app.confdir) / "node_modules"
    for package in json.loads((Path(app.confdir) / "package.json").read_text())["dependencies"]:
        if not (modules / package / "package.json").is_file():
            raise SystemExit(
                f"node_modules/{package} is missing: `make book` installs it, or `npm ci`."
            )
    version = json.loads((modules / "katex" / "package.json").read_text())["version"]
    if version != katex.katex_version:
        raise SystemExit(
            f"node_modules has KaTeX {version}, but sphinxcontrib-katex renders with "
            f"{katex.katex_version}; another version's style sheet clips formulas. "
            "Set the same version in package.json and run `npm install`."
        )

    static = Path(app.outdir) / "_static"
    (static / "fonts").mkdir(parents=True, exist_ok=True)
    style = (modules / "katex" / "dist" / "katex.min.css").read_text()
    style = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("[a-z]+"\)', "", style)
    style = style.replace("@font-face{", "@font-face{font-display:swap;")
    (static / "katex.css").write_text(style)
    own = (Path(app.confdir) / "assets" / "fonts.css").read_text()
    for name in re.findall(r"url\(fonts/([^)]+\.woff2)\)", style + own):
        family = re.sub(r"-(latin|greek)-.*", "", name)
        folder = modules / (
            "katex/dist/fonts" if name.startswith("KaTeX") else f"@fontsource/{family}/files"
        )
        shutil.copyfile(folder / name, static / "fonts" / name)


def write_code_styles(app: Sphinx) -> None:
    """Write the colours of highlighted code, one set of rules for each theme."""
    if app.builder.format != "html":
        return
    rules: list[str] = []
    for theme, style in CODE_STYLES.items():
        colours, where = HtmlFormatter(style=style), f'html[data-theme="{theme}"] .highlight'
        rules += colours.get_background_style_defs(where) + colours.get_token_style_defs(where)
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    (static / "code.css").write_text("\n".join(rules) + "\n")


def say_no_place(app: Sphinx) -> None:
    """Leave it to `tools/build.py` to say where the site is: Sphinx knows only the stage."""
    app.builder.epilog = ""


# ---- Where the book is published ----------------------------------------------------------------


def configure(app: Sphinx, config: Config) -> None:
    """Set what follows from the book's addresses."""
    address = config.book_url.rstrip("/") + "/" if config.book_url else ""
    config.html_baseurl = address
    config.notfound_urls_prefix = urlsplit(address).path or "/"
    if address:
        config.sitemap_url_scheme = "{link}"
        config.sitemap_excludes = ["search.html", "404.html"]  # and what only leads on
        config.ogp_site_url = address
        config.ogp_social_cards = {"enable": False}  # one for all pages (extensions/card.py)
    if config.book_solutions not in SOLUTIONS:
        raise SystemExit(
            f"BOOK_SOLUTIONS is {config.book_solutions!r}; allowed are {', '.join(SOLUTIONS)}."
        )
    if config.book_solutions == "none":
        config.html_copy_source = False  # it has them
    if config.book_repository and not re.fullmatch(
        r"https://github\.com/[\w.-]+/[\w.-]+", config.book_repository
    ):
        raise SystemExit(
            f"BOOK_REPOSITORY is {config.book_repository!r}; it must be of the form "
            "https://github.com/owner/name, without a slash at the end."
        )


def page_links(config: Config, page: str, source: str, notebook: bool) -> list[dict[str, str]]:
    """Return the links of a page into the book's repository: none where it is unknown."""
    repository, branch = config.book_repository, quote(config.book_branch, safe="/")
    if not repository:
        return []
    name, path = urlsplit(repository).path.strip("/"), quote(source)
    links = []
    if notebook:
        binder = f"https://mybinder.org/v2/gh/{name}/{quote(branch, safe='')}"
        colab = f"https://colab.research.google.com/github/{name}/blob/{NOTEBOOKS_BRANCH}"
        links += [
            {"icon": "run", "text": "Run on Binder", "url": f"{binder}?urlpath=lab/tree/{path}"},
            {"icon": "run", "text": "Open in Colab", "url": f"{colab}/{quote(page)}.ipynb"},
        ]
    links += [
        {"icon": "edit", "text": "Edit this page", "url": f"{repository}/edit/{branch}/{path}"},
        {
            "icon": "issue",
            "text": "Report a mistake",
            "url": f"{repository}/issues/new?title={quote('On page ' + page, safe='')}",
        },
        {"icon": "repository", "text": "Repository", "url": repository},
    ]
    return links


def page_context(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the templates a page's links, and take away the files that no page needs."""
    context["author"] = app.config.author
    context["root_title"] = app.env.titles[app.config.root_doc].astext()
    context["page_toc"], context["page_links"] = "", []
    context["page_notebook"] = context["page_source"] = ""
    if doctree is not None:
        source = str(app.env.doc2path(page, base=False)).replace(os.sep, "/")
        notebook = "kernelspec" in app.env.metadata[page]
        context["page_toc"] = headings(app, page)
        context["page_links"] = page_links(app.config, page, source, notebook)
        context["page_notebook"] = f"{page}.ipynb" if notebook else ""
        if notebook and app.config.html_copy_source:
            context["page_source"] = f"_sources/{context['sourcename']}"
        for found, repaired in REPAIRS.items():
            context["body"] = context["body"].replace(found, repaired)
    context["css_files"] = [
        file
        for file in context["css_files"]
        if not UNUSED.search(str(getattr(file, "filename", file)))
    ]


def headings(app: Sphinx, page: str) -> str:
    """Return the list of a page's headings below its title, without their numbers; empty if none."""
    toc = TocTree(app.env).get_toc_for(page, app.builder)
    below = [item for title in toc.children for item in title.children[1:]]
    return "".join(app.builder.render_partial(each)["fragment"] for each in below)  # type: ignore[attr-defined]


def forget_words(app: Sphinx) -> list[tuple[str, dict[str, Any], str]]:
    """Drop the words that no page has any more: an edited book's search is that of a clean build."""
    indexer = getattr(app.builder, "indexer", None)
    if indexer is not None:
        for words in (indexer._mapping, indexer._title_mapping):
            for word in [word for word, pages in words.items() if not pages]:
                del words[word]
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    for name, default in [
        ("URL", ""),
        ("REPOSITORY", ""),
        ("BRANCH", "main"),
        ("SOLUTIONS", SOLUTIONS[0]),
    ]:
        value = os.environ.get(f"BOOK_{name}") or default
        app.add_config_value(f"book_{name.lower()}", value, "html", str)
    if os.environ.get("BOOK_URL"):
        app.setup_extension("sphinx_sitemap")
        app.setup_extension("sphinxext.opengraph")
        app.setup_extension("extensions.card")
    app.setup_extension("extensions.formulas")
    app.setup_extension("extensions.citing")
    app.setup_extension("extensions.run_times")
    app.setup_extension("extensions.previews")
    app.setup_extension("extensions.addresses")
    app.add_node(Details, html=(visit_details, depart_details))
    app.add_node(Summary, html=(visit_summary, depart_summary))
    app.add_css_file("code.css", priority=300)
    app.add_css_file("katex.css", priority=400)
    app.connect("config-inited", configure)
    app.connect("builder-inited", copy_npm_files)
    app.connect("builder-inited", write_code_styles)
    app.connect("builder-inited", say_no_place)
    app.connect("doctree-resolved", fold, priority=900)
    app.connect("doctree-resolved", wrap_tables)
    app.connect("html-collect-pages", forget_words)
    app.connect("html-page-context", page_context, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
