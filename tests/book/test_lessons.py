"""Plans of lessons count words and minutes; nobody types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from extensions.lessons import duration, lesson
from tests.book.books import CONF, build, cell, html, project, section
from tests.book.contents import SECTIONS, text

LESSONS_CONF = (
    CONF.replace('["extensions.execution"]', '["myst_nb", "sphinx_exercise", "extensions.lessons"]')
    + 'myst_enable_extensions = ["dollarmath"]\nnumfig = True\nbook_reading_speed = 2\n'
    + 'nb_execution_mode = "off"\nsuppress_warnings = ["myst-nb.lexer"]\n'
)
EXERCISES = """
## Exercises

```{exercise-start} Add (easy, 5 minutes)
:label: ex-add
```
Words that are not read.
```{exercise-end}
```
"""
PAGE = section("Two words", "Four words $x$ more", "$$\nx\n$$", cell("not = counted"), EXERCISES)


def test_words_of_prose_are_counted_and_nothing_else() -> None:
    assert lesson(PAGE) == (5, {"ex-add": 5})


def test_hours_and_minutes() -> None:
    assert duration(59) == "59\N{NO-BREAK SPACE}min"
    assert duration(125).replace("\N{NO-BREAK SPACE}", " ") == "2 h 5 min"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_exercise_says_its_minutes(name: str) -> None:
    assert len(lesson(text(name)).exercises) == text(name).count("{exercise-start}")


@pytest.mark.filterwarnings("ignore")
def test_a_table_has_links_times_and_a_sum(tmp_path: Path) -> None:
    plan = (
        "# Plan\n\nAt {reading-speed}`words a minute`.\n\n```{lessons}\npart/one\npart/two\n```\n"
    )
    two = PAGE.replace("ex-add", "ex-sum")
    project(tmp_path, {"part/one": PAGE, "part/two": two, "plan": plan}, LESSONS_CONF)
    status, log = build(tmp_path, "-W", "--keep-going")
    assert status == 0, log
    page = html(tmp_path, "plan").replace("\N{NO-BREAK SPACE}", " ")
    assert "At 2 words a minute." in page
    assert page.count('href="part/one.html#ex-add"') == 1
    assert "<strong>4 min</strong>" in page, "both are read in two minutes each"
    assert "<strong>10 min</strong>" in page


@pytest.mark.filterwarnings("ignore")
def test_a_page_that_is_not_there_is_named(tmp_path: Path) -> None:
    project(tmp_path, {"plan": "# Plan\n\n```{lessons}\nnowhere\n```\n"}, LESSONS_CONF)
    status, log = build(tmp_path, "-W", "--keep-going")
    assert status != 0
    assert "plan.md:3: WARNING: {lessons}: there is no page nowhere" in log
