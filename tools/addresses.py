"""Addresses: every page, and every label in it, that readers may have kept a link to.

``chapters/addresses.lock.yml`` lists what was public at some time, and only grows: `make accept
LABEL=addresses` adds what is new. ``chapters/redirects.yml`` says where renamed ones went. A label
that moved to another page needs no word: its name says where it is now.

An old page becomes a small page that leads to the new one. On a page that is still there, an old
label becomes a line that is seen only by who comes for it, and leads on.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools import labels
from tools.environment import ROOT

LOCK = "chapters/addresses.lock.yml"
REDIRECTS = "chapters/redirects.yml"
HEAD = """\
# Public addresses: pages, and the labels that each had when it was listed. Nothing is ever removed:
# what is renamed goes into redirects.yml. `make accept LABEL=addresses` adds what is new.
"""

Addresses = dict[str, list[str]]  # of each page the labels


@dataclass(frozen=True)
class Redirects:
    """Where old pages and old labels went."""

    pages: dict[str, str]
    labels: dict[str, str]


def current(root: Path = ROOT) -> Addresses:
    """Return the addresses that the book has now, from its sources."""
    table = labels.places(root)
    found: Addresses = {name.removesuffix(".md"): [] for name in table["pages"]}
    for label, target in table["labels"].items():
        found[target["page"].removesuffix(".md")].append(label)
    return found


def listed(root: Path = ROOT) -> Addresses:
    """Return the addresses that were public at some time."""
    path = root / LOCK
    return (yaml.safe_load(path.read_text("utf8")) or {}) if path.is_file() else {}


def redirects(root: Path = ROOT) -> Redirects:
    """Return where old addresses went.

    Raises:
        ValueError: the file has another form.
    """
    path = root / REDIRECTS
    try:
        held = (yaml.safe_load(path.read_text("utf8")) or {}) if path.is_file() else {}
        if not held.keys() <= {"pages", "labels"}:
            raise ValueError
        return Redirects(dict(held.get("pages") or {}), dict(held.get("labels") or {}))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{REDIRECTS}: allowed are the two entries pages and labels, with lines `old: new` below"
        ) from None


def anchor(label: str) -> str:
    """Return the name of a label's place in its page."""
    return f"equation-{label}" if label.startswith("eq-") else label


def places(addresses: Addresses) -> dict[str, str]:
    """Return the page of each label."""
    return {label: page for page, held in addresses.items() for label in held}


def faults(now: Addresses, before: Addresses, went: Redirects) -> Iterator[str]:
    """Say which old address leads nowhere, and what to write."""
    where = places(now)
    for kind, moved, known in (("page", went.pages, set(now)), ("label", went.labels, set(where))):
        for old, new in moved.items():
            if old in known:
                yield f"{old} is a {kind} of the book, so it cannot lead to {new}; take out its line"
            if new not in known:
                yield f"{old} leads to {new}, which is no {kind} of the book{near(new, known)}"
    for page in before:
        if page not in now and page not in went.pages:
            yield (
                f"the page {page} is gone, and readers may have its address. Write below pages: "
                f"`{page}: <the page that took its place>`{near(page, set(now))}"
            )
    for label in places(before):
        if label not in where and label not in went.labels:
            yield (
                f"the label {label} is gone, and readers may have its address. Write below labels: "
                f"`{label}: <the label that took its place>`{near(label, set(where))}"
            )


def near(name: str, known: set[str]) -> str:
    """Return a guess of what was meant."""
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (perhaps {found[0]})" if found else ""


def moved(now: Addresses, before: Addresses, went: Redirects) -> dict[str, dict[str, str]]:
    """Return, for each page, the labels that readers look for there, each with the present one."""
    where = places(now)
    found: dict[str, dict[str, str]] = {}
    for page, held in before.items():
        here = went.pages.get(page, page)
        for old in held:
            new = went.labels.get(old, old)
            if here in now and new in where and (where[new], new) != (here, old):
                found.setdefault(here, {})[old] = new
    return found


def accept(root: Path = ROOT) -> list[str]:
    """List the addresses that are new; return a line on each."""
    now, before = current(root), listed(root)
    said = []
    for page, held in now.items():
        new = [label for label in held if label not in before.get(page, [])]
        if page not in before or new:
            said += [f"{page}: {', '.join(new) or 'listed'}"]
            before[page] = sorted([*before.get(page, []), *new])
    entries = [
        f"\n{page}:\n" + "".join(f"- {label}\n" for label in held) if held else f"\n{page}: []\n"
        for page, held in sorted(before.items())
    ]
    (root / LOCK).write_text(HEAD + "".join(entries), "utf8")
    return said or ["All addresses are listed."]
