"""Links that survive renames: what is public stays listed, and leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import addresses, locks
from tools.addresses import Redirects, faults, moved

NONE = Redirects({}, {})
NOW = {"part/new": ["sec-new", "eq-new"], "part/other": ["fig-a"]}


def test_every_address_of_the_book_is_listed() -> None:
    listed = addresses.listed()
    new = {
        f"{page}#{label}"
        for page, held in addresses.current().items()
        for label in ["", *held]
        if page not in listed or (label and label not in listed[page])
    }
    assert not new, f"new addresses: make accept LABEL=addresses lists them ({sorted(new)})"


def test_every_listed_address_of_the_book_leads_somewhere() -> None:
    assert list(faults(addresses.current(), addresses.listed(), addresses.redirects())) == []


@pytest.mark.parametrize(
    ("before", "went", "said"),
    [
        (
            {"part/neww": []},
            NONE,
            "the page part/neww is gone, and readers may have its address. Write below pages: "
            "`part/neww: <the page that took its place>` (perhaps part/new)",
        ),
        (
            {"part/new": ["eq-old"]},
            NONE,
            "the label eq-old is gone, and readers may have its address. Write below labels: "
            "`eq-old: <the label that took its place>`",
        ),
        (
            {},
            Redirects({"part/new": "part/other"}, {}),
            "part/new is a page of the book, so it cannot lead to part/other; take out its line",
        ),
        (
            {},
            Redirects({"part/old": "part/nwe"}, {}),
            "part/old leads to part/nwe, which is no page of the book (perhaps part/new)",
        ),
        (
            {},
            Redirects({}, {"fig-a": "eq-new"}),
            "fig-a is a label of the book, so it cannot lead to eq-new; take out its line",
        ),
        (
            {},
            Redirects({}, {"eq-old": "eq-nwe"}),
            "eq-old leads to eq-nwe, which is no label of the book (perhaps eq-new)",
        ),
    ],
)
def test_what_leads_nowhere_is_named(
    before: addresses.Addresses, went: Redirects, said: str
) -> None:
    (found,) = faults(NOW, before, went)
    assert found.startswith(said)


def test_what_leads_somewhere_is_not_named() -> None:
    before = {"part/old": ["eq-old", "fig-a"], **NOW}
    went = Redirects({"part/old": "part/new"}, {"eq-old": "eq-new"})
    assert list(faults(NOW, before, went)) == []


def test_labels_lead_on_from_where_readers_look_for_them() -> None:
    before = {"part/old": ["eq-old", "fig-a", "sec-new"], "part/other": ["fig-a", "eq-new"]}
    went = Redirects({"part/old": "part/new"}, {"eq-old": "eq-new"})
    assert moved(NOW, before, went) == {
        "part/new": {"eq-old": "eq-new", "fig-a": "fig-a"},
        "part/other": {"eq-new": "eq-new"},
    }
    assert moved(NOW, NOW, NONE) == {}


@pytest.mark.parametrize("text", ["pages: [1", "page:\n  a: b\n", "- a\n", "pages: 3\n"])
def test_a_broken_file_of_redirects_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "chapters").mkdir()
    (tmp_path / addresses.REDIRECTS).write_text(text)
    with pytest.raises(ValueError, match=r"chapters/redirects\.yml: allowed are the two entries"):
        addresses.redirects(tmp_path)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "references.bib").touch()
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: chapters/intro\nparts:\n- numbered: 2\n  chapters:\n"
        "  - file: chapters/one\n"
    )
    (tmp_path / "chapters" / "intro.md").write_text("(sec-intro)=\n# Intro\n")
    (tmp_path / "chapters" / "one.md").write_text("(sec-one)=\n# One\n\n$$ a $$ (eq-a)\n")
    return tmp_path


def test_accepting_adds_and_never_removes(book: Path) -> None:
    assert addresses.accept(book) == [
        "chapters/intro: sec-intro",
        "chapters/one: sec-one, eq-a",
    ]
    assert addresses.accept(book) == ["All addresses are listed."]
    (book / "chapters" / "one.md").write_text("(sec-one)=\n# One\n\n$$ a $$ (eq-b)\n")
    assert addresses.accept(book) == ["chapters/one: eq-b"]
    assert addresses.listed(book) == {
        "chapters/intro": ["sec-intro"],
        "chapters/one": ["eq-a", "eq-b", "sec-one"],
    }


def test_the_command_accepts_addresses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(addresses, "accept", lambda: ["listed"])
    assert locks.main(["addresses"]) == 0
    assert capsys.readouterr().out == "listed\n"
