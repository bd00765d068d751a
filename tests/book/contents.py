"""The table of contents: the book's pages, and which of them are sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tools.environment import ROOT

NOTEBOOK = re.compile(r"---\n.*?^kernelspec:", re.M | re.S)


def pages(node: Any) -> Iterator[tuple[str, bool]]:
    """The pages of a table of contents, in order, each with whether pages stand below it."""
    below = [value for value in node.values() if isinstance(value, list)]
    yield from ((node[key], bool(below)) for key in ("root", "file") if key in node)
    for entries in below:
        for entry in entries:
            yield from pages(entry)


CONTENTS = list(pages(yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))))
TOC = [name for name, _ in CONTENTS]
WRITTEN = [name for name in TOC if (ROOT / f"{name}.md").is_file()]


@cache
def text(name: str) -> str:
    return (ROOT / f"{name}.md").read_text("utf8")


# Notebooks are pages with code. Those above others lead into the book or a part; the others are its
# sections, as `extensions.lints.Page.is_section` says too.
NOTEBOOKS = [name for name in WRITTEN if NOTEBOOK.match(text(name))]
SECTIONS = [name for name, below in CONTENTS if name in NOTEBOOKS and not below]
INTRO, *PARTS = [name for name, below in CONTENTS if below]
