"""Throw-away books for the tests of the extensions: tiny, and built in this process."""

from __future__ import annotations

import gc
import io
import re
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from sphinx.cmd.build import build_main

from extensions.kernels import ANSI

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---
"""
CONF = """\
extensions = ["extensions.execution"]
exclude_patterns = ["_build"]
html_theme = "basic"
"""


def cell(code: str, options: str = "") -> str:
    return f"\n```{{code-cell}} ipython3\n{options}{code}\n```\n"


def section(title: str, *parts: str) -> str:
    return f"{HEADER}\n# {title}\n\n" + "\n".join(parts)


def project(folder: Path, pages: dict[str, str], conf: str = CONF, helpers: str = "") -> Path:
    """Write a throw-away book: its pages, in this order, below an index page."""
    index = "# A book\n\n```{toctree}\n:numbered:\n" + "\n".join(pages) + "\n```\n"
    for name, text in {"index": index, **pages}.items():
        (folder / f"{name}.md").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
    (folder / "conf.py").write_text(conf)
    (folder / "rl_helpers").mkdir(exist_ok=True)
    (folder / "rl_helpers" / "__init__.py").write_text(helpers or "ANSWER = 42\n")
    (folder / "constraints.txt").write_text("numpy==2\n")
    return folder


def build(folder: Path, *options: str, output: str = "_build") -> tuple[int, str]:
    """Build a throw-away book, and return the exit status and everything printed."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the many packages that take part in a build
        target = folder / output / "html"
        try:
            status = build_main(["-b", "html", *options, str(folder), str(target)])
        except SystemExit as stopped:
            print(stopped)
            status = 1
        gc.collect()
    return status, ANSI.sub("", printed.getvalue())


def executed(log: str) -> list[str]:
    """Return the sections that a build executed, in any order but each as often as it was."""
    return sorted(re.findall(r"^executed (\S+) in [\d.]+ s$", log, re.MULTILINE))


def html(folder: Path, name: str) -> str:
    return (folder / "_build" / "html" / f"{name}.html").read_text()


def line_of(folder: Path, name: str, text: str) -> int:
    """Return the line of a page, from 1, on which a text first stands."""
    lines = (folder / f"{name}.md").read_text().splitlines()
    return next(n for n, line in enumerate(lines, start=1) if text in line)
