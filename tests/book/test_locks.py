"""Locks: a changed equation or check is noticed until it is accepted; no check of x against x."""

from __future__ import annotations

from pathlib import Path

import pytest
from docutils import nodes
from docutils.utils import new_document

from extensions import lints
from tests.book import test_ledger as books
from tests.book.books import build, cell, line_of, section
from tools import locks, sources
from tools.messages import Stop

EQUATIONS = """\
Some text, $x$, and $$ y $$ alone.

$$
a &= b \\\\
  &= c
$$ (eq-one)

:::{prf:theorem}
:label: thm-two

$$ c = d. $$ (eq-two)
:::
"""
CHECK = 'for label in ("eq-one",):\n    check(label, left, right, tol=1e-9)  # both sides\n'
PAGE = "# Page\n\n" + EQUATIONS + cell(CHECK) + cell('check("eq-two", 1.0, x)', ":tags: [a]\n\n")


def page(text: str, docname: str = "page") -> lints.Page:
    return lints.Page(docname, text, new_document(docname))


def faults(text: str, held: dict[str, locks.Lock], tmp_path: Path) -> list[lints.Fault]:
    path = tmp_path / "locks.yml"
    locks.save(path, held)
    return list(lints.lint_locks([page(text)], str(path), locks.load(path)))


def line(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_equations_of_a_source() -> None:
    one, two = sources.equations(PAGE)
    assert (one.label, one.latex) == ("eq-one", "a &= b \\\\\n  &= c")
    assert (two.label, two.latex) == ("eq-two", "c = d.")
    assert one.line == line(PAGE, "(eq-one)")
    assert two.line == line(PAGE, "(eq-two)")


def test_cells_of_a_source() -> None:
    options = "---\ntags: [hide-input]\nmystnb:\n  figure: {name: fig-a}\n---\n"
    text = section(
        "A", "$$ a $$", cell("x = 1\n\ny = 2"), cell("z = 3", options), cell("w", ":a: b\n\n")
    )
    one, two, three = sources.cells(text)
    assert (one.code, one.options, one.line) == ("x = 1\n\ny = 2\n", "", line(text, "x = 1"))
    assert (two.code, two.line) == ("z = 3\n", line(text, "z = 3"))
    assert (two.options, two.options_line) == (options[4:-4], line(text, "tags:"))
    assert (three.code, three.options, three.line) == ("w\n", ":a: b\n", line(text, "\nw\n") + 1)
    blank = sources.without_cells(text)
    assert blank.count("\n") == text.count("\n")
    assert "x = 1" not in blank
    assert "$$ a $$" in blank


def test_what_was_accepted_has_no_fault(tmp_path: Path) -> None:
    assert faults(PAGE, locks.read(PAGE), tmp_path) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# both sides", "# the two sides"),
        ("left, right, tol", "left,\n          right, tol"),
        ("Some text", "Another text"),
        ("check(label", "check (label"),
    ],
)
def test_comments_layout_and_prose_do_not_count(before: str, after: str, tmp_path: Path) -> None:
    assert before in PAGE
    assert faults(PAGE.replace(before, after), locks.read(PAGE), tmp_path) == []


CHANGES = [  # what, is made to say, the line of this, message
    ("a &= b", "a &= -b", "(eq-one)", "equation eq-one is not what was accepted: read it and its"),
    ("1e-9", "1e-8", '("eq-one"', "what checks equation eq-one is not what was accepted: read it"),
    ("left, right", "left, left", '("eq-one"', "what checks equation eq-one"),
    ("1.0, x", "x, x", '"eq-two"', "what checks equation eq-two"),
    ("(eq-two)", "(eq-new)", "(eq-new)", "equation eq-new was never accepted: read it and its"),
]


@pytest.mark.parametrize(("before", "after", "where", "message"), CHANGES)
def test_a_change_is_named(
    before: str, after: str, where: str, message: str, tmp_path: Path
) -> None:
    assert PAGE.count(before) == 1
    text = PAGE.replace(before, after)
    first, *others = faults(text, locks.read(PAGE), tmp_path)
    assert first[:2] == ("page", line(text, where))
    assert first[2].startswith(message)
    label = next(word for word in message.split() if word.startswith("eq-"))
    assert first[2].endswith(f"then make accept LABEL={label}")
    assert len(others) == ("eq-new" in message), "the old label is gone"


def test_swapped_labels_are_named(tmp_path: Path) -> None:
    swapped = (
        PAGE.replace("(eq-one)", "(x)").replace("(eq-two)", "(eq-one)").replace("(x)", "(eq-two)")
    )
    found = faults(swapped, locks.read(PAGE), tmp_path)
    assert [message.split(":")[0] for *_, message in found] == [
        "equation eq-two is not what was accepted", "equation eq-one is not what was accepted"
    ]  # fmt: skip


def test_an_equation_that_is_gone_is_named_at_its_lock(tmp_path: Path) -> None:
    text = PAGE.replace(" (eq-one)", "")
    ((where, _, message),) = faults(text, locks.read(PAGE), tmp_path)
    path, number = where.rsplit(":", 1)
    assert Path(path).read_text().splitlines()[int(number) - 1] == "eq-one:"
    assert message == "equation eq-one is gone: put it back, or make accept LABEL=eq-one"


def test_an_equation_that_the_source_hides_cannot_be_locked() -> None:
    shown = page("# A\n\n```{math}\n:label: eq-a\na\n```\n")
    shown.doctree.append(nodes.math_block("a", "a", label="eq-a", classes=[]))
    ((_, at, message),) = lints.lint_locks([shown], "locks.yml", {})
    assert (at, message) == (4, "equation eq-a cannot be locked; allowed is $$ … $$ (eq-a)")


def test_locks_survive_a_file(tmp_path: Path) -> None:
    held = {
        "eq-b": locks.Lock("\\frac{a}{b}\n\n  : 'c' # d", "0123456789012345"),
        "eq-a": locks.Lock("- x", "1e10000000000000"),
    }
    path = tmp_path / "locks.yml"
    locks.save(path, held)
    assert locks.load(path) == held
    assert path.read_text().index("eq-a") < path.read_text().index("eq-b")
    assert locks.load(tmp_path / "none.yml") == {}


# ---- Both sides the same ------------------------------------------------------------------------

SAME = [
    ('check("eq-a", f(x), f( x ), mistakes={})', "check compares f(x) with itself"),
    ('checks.check("eq-a", lhs=x, rhs=x, mistakes={})', "checks.check compares x with itself"),
    ('check("eq-a", x, mistakes={}, rhs=x)', "check compares x with itself"),
    ('check_bound("eq-a", low[0], low[0], mistakes={})', "check_bound compares low[0] with itself"),
    ('check_statistical("eq-a", x, x, mistakes={})', "check_statistical compares x with itself"),
]
DIFFERENT = [
    'check("eq-a", f(x), f(y), mistakes={"m": f(x)})',
    'g("eq-a", x, x)',
    'check("eq-a")',
    "%time",
]


@pytest.mark.parametrize(("code", "message"), SAME)
def test_a_check_of_something_against_itself_is_named(code: str, message: str) -> None:
    text = section("A", cell(f"x = 1\n{code}"))
    ((docname, at, said),) = lints.lint_sides([page(text)])
    assert (docname, at) == ("page", line(text, code))
    assert said.startswith(message)


@pytest.mark.parametrize("code", DIFFERENT)
def test_other_code_may_repeat_itself(code: str) -> None:
    assert list(lints.lint_sides([page(section("A", cell(code)))])) == []


# ---- In a build ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_a_build_fails_until_an_equation_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = section("A", books.IMPORT, books.equation("eq-a"), cell('check("eq-a", wrong="1")'))
    (tmp_path / "chapters").mkdir()
    conf = (
        books.LEDGER_CONF + 'book_locks = "chapters/equations.lock.yml"\nbook_least_exercises = 0\n'
    )
    monkeypatch.setattr(books, "LEDGER_CONF", conf)
    books.write(tmp_path, {"chapters/page": text + "\n{cite}`used`\n"})
    where = line_of(tmp_path, "chapters/page", "(eq-a)")
    status, log = build(tmp_path, "-W", "--keep-going")
    assert status == 1
    assert f"chapters/page.md:{where}: WARNING: equation eq-a was never accepted" in log

    assert locks.accept("eq-a", tmp_path) == ["eq-a: accepted"]
    assert build(tmp_path, "-W", "--keep-going")[0] == 0

    (tmp_path / locks.FILE).write_text("eq-a:\n<<<<<<< ours\n  latex: x\n")
    status, log = build(tmp_path, "-W", "--keep-going")
    assert status == 1
    assert "chapters/equations.lock.yml:3: WARNING: not a lock file as make accept writes it" in log


# ---- Accepting ----------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "chapters" / "part").mkdir(parents=True)
    (tmp_path / "chapters" / "part" / "page.md").write_text(PAGE)
    return tmp_path


def test_accept_one_several_all_and_what_is_gone(book: Path) -> None:
    assert locks.accept("eq-one", book) == ["eq-one: accepted"]
    assert set(locks.load(book / locks.FILE)) == {"eq-one"}
    assert locks.accept("eq-one eq-two", book) == ["eq-one: as accepted before", "eq-two: accepted"]
    assert locks.accept("all", book) == ["All equations are as they were accepted."]
    path = book / "chapters" / "part" / "page.md"
    path.write_text(PAGE.replace("a &= b", "a &= -b").replace(" (eq-two)", ""))
    assert locks.accept("all", book) == ["eq-one: accepted", "eq-two: removed"]
    assert locks.load(book / locks.FILE) == locks.read(path.read_text())


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "make accept needs LABEL=eq-… (several in quotes), or LABEL=all. "
             "Not accepted: eq-one, eq-two."),
        ("eq-tow", "No equation is labelled 'eq-tow', and none was. Did you mean eq-two? Not accepted:"),
        ("sec-a", "No equation is labelled 'sec-a', and none was. Not accepted: eq-one, eq-two."),
        ("eq-one sec-a", "No equation is labelled 'sec-a'"),
    ],
)  # fmt: skip
def test_accept_says_what_is_allowed(label: str, message: str, book: Path) -> None:
    with pytest.raises(Stop) as stop:
        locks.accept(label, book)
    assert message in str(stop.value)
    assert not (book / locks.FILE).exists(), "nothing is accepted by mistake"


def test_what_jupyterlab_left_is_not_accepted(book: Path) -> None:
    left = book / "chapters" / ".ipynb_checkpoints" / "old-checkpoint.md"
    left.parent.mkdir()
    left.write_text("# Old\n\n$$ z $$ (eq-old)\n")
    locks.accept("all", book)
    with pytest.raises(Stop, match="No equation is labelled 'eq-old'"):
        locks.accept("eq-old", book)


def test_accept_does_not_overwrite_a_broken_file(book: Path) -> None:
    broken = "eq-one:\n  latex: [\n"
    (book / locks.FILE).write_text(broken)
    with pytest.raises(Stop, match=r"equations\.lock\.yml:\d+: not a lock file as make accept"):
        locks.accept("all", book)
    assert (book / locks.FILE).read_text() == broken


def test_the_command_prints_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert locks.main(["eq-no-such-equation"]) == 1
    assert "No equation is labelled 'eq-no-such-equation'" in capsys.readouterr().err
