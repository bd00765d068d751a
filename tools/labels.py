"""What JupyterLab needs to know of the whole book to show one section: python -m tools.labels.

Written as labels.json beside tools/labextension/sections.js, where that was installed:

    pages    of each page its number, and whether it has code
    labels   of each label its page, kind, name ("Figure"), number as on the site, and title
    sources  of each key in the bibliography the authors, the year and the whole reference
    quotes   of each ``{run}`` that a notebook cannot show by itself, of another section or of a
             mistake, what it said in the last build

But for the quotes, a section's source is enough for that: the site numbers what has a label, in
the order of the text.
`tests/book/test_labels.py` holds the numbers to those of the built pages.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

from extensions import quotes
from tools.environment import ROOT, extension_folder
from tools.site import build_folder

SECTION = re.compile(r"^\((?P<label>[\w-]+)\)=\n#+ (?P<title>.+)$", re.M)
NUMBERED = {
    "equation": re.compile(r"\$\$ *\((?P<label>[\w-]+)\)"),
    "figure": re.compile(r"(?:\bname|^:name): *['\"]?(?P<label>fig-[\w-]+)", re.M),
    "exercise": re.compile(r"\{exercise(?:-start)?\} *(?P<title>.*)\n:label: *(?P<label>\S+)"),
    "": re.compile(r"\{prf:(?P<kind>\w+)\} *(?P<title>.*)\n:label: *(?P<label>\S+)"),
}


def page_numbers(toc: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each page of the table of contents with its number; "" where the site shows none."""
    yield toc["root"], ""
    count = 0
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            count += bool(part.get("numbered"))
            number = f"{count}" if part.get("numbered") else ""
            yield chapter["file"], number
            for place, section in enumerate(chapter.get("sections", []), start=1):
                yield section["file"], f"{number}.{place}" if number else ""


def labels_of(text: str, page: str, number: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the labels of a page, with what a reference to them may show."""
    for found in SECTION.finditer(text):
        entry = {"page": page, "kind": "section", "name": "Section", "title": found["title"]}
        yield found["label"], {**entry, "number": number}
    for kind, pattern in NUMBERED.items():
        counts = Counter[str]()
        for found in pattern.finditer(text):
            groups = found.groupdict()
            of = kind or groups["kind"]
            counts[of] += 1
            count = f"{number}.{counts[of]}" if number else f"{counts[of]}"
            entry = {"page": page, "kind": of, "name": of.capitalize(), "number": count}
            yield groups["label"], {**entry, "title": groups.get("title", "").strip()}


def source(entry: Entry) -> dict[str, str]:
    """Return how a source is cited, and the whole reference."""
    people = [person for person in entry.persons["author"] if str(person) != "others"]
    all_known = len(people) == len(entry.persons["author"])
    families = [plain(*person.prelast_names, *person.last_names) for person in people]
    names = [plain(*person.first_names, *person.middle_names) for person in people]
    authors = " and ".join(families)
    if len(families) > 2 or not all_known:
        authors = f"{families[0]} et al."
    everyone = [f"{name} {family}".strip() for name, family in zip(names, families, strict=True)]
    everyone += [] if all_known else ["and others"]
    fields = {key: plain(value) for key, value in entry.fields.items()}
    place = [fields[key] for key in ("journal", "booktitle", "publisher") if key in fields][:1]
    title = fields["title"] if fields["title"][-1] in "?!" else fields["title"] + "."
    full = f"{', '.join(everyone)}. {title} {', '.join([*place, fields['year']])}."
    return {"authors": authors, "year": fields["year"], "full": full}


def plain(*words: str) -> str:
    """Return words of BibTeX without their markup."""
    return str(Text.from_latex(" ".join(words)))


def quoted(page: str, text: str, pages: Collection[str], root: Path) -> Iterator[tuple[str, str]]:
    """Yield what a page quotes of other sections and of mistakes, with what the last build said."""
    for _, said in quotes.quotes(text):
        section, name, _ = quotes.parsed(said)
        if section or "[" in name:
            with suppress(ValueError):  # not built, or wrong: the build says so
                docname = quotes.docname_of(section, pages) if section else page
                notebook = build_folder(root) / "notebooks" / f"{docname}.ipynb"
                yield f"{page}.md {said}", quotes.quote(quotes.read(notebook), said)


def places(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return `pages` and `labels` of the table."""
    table: dict[str, dict[str, Any]] = {"pages": {}, "labels": {}}
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    for name, number in page_numbers(toc):
        page = f"{name}.md"
        if not (root / page).is_file():
            continue  # still to be written
        text = (root / page).read_text("utf8")
        table["pages"][page] = {"number": number, "code": "{code-cell}" in text}
        table["labels"].update(labels_of(text, page, number))
    return table


def labels(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return the whole table."""
    table = places(root)
    names = [page.removesuffix(".md") for page in table["pages"]]
    table["quotes"] = {}
    for name in names:
        text = (root / f"{name}.md").read_text("utf8")
        table["quotes"].update(quoted(name, text, names, root))
    entries = parse_file(root / "chapters" / "references.bib").entries
    sources = {key: source(entry) for key, entry in entries.items()}
    table["sources"] = dict(sorted(sources.items(), key=lambda item: [*item[1].values()]))
    return table


def main(prefix: Path = Path(sys.prefix), root: Path = ROOT) -> None:
    """Write the table into the environment that runs this."""
    target = extension_folder(prefix) / "static" / "labels.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(labels(root), ensure_ascii=False), "utf8")


if __name__ == "__main__":
    main()
