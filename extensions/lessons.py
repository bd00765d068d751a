"""Plans of lessons: the directive ``{lessons}`` makes a table of the sections that it is given.

Each section has a row with its reading time, from the words of its prose at `book_reading_speed`
words a minute, formulas, code and solutions not counted, and with its exercises, each a link, and
the minutes that its title gives it. The last row adds up. The role ``{reading-speed}`` says how many
words a minute. So nobody types a time, and none goes out of date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from tools.sources import EQUATION, without_cells

logger = logging.getLogger(__name__)

EXERCISE = re.compile(
    r"^```\{exercise-start\}[^\n]*?\((?:easy|medium|hard), (?P<minutes>\d+) minutes?\)\n"
    r":label: (?P<label>[\w-]+)$",
    re.M,
)
NO_PROSE = re.compile(
    r"\A---\n.*?^---$|^```[^\n]*$|^:[\w-]+:[^\n]*$|^\([^)\n]*\)=$|\$[^$]+\$", re.M | re.S
)
WORD = re.compile(r"\w[\w'’.-]*")


class Lesson(NamedTuple):
    """What a section asks of its reader: words, and exercises with their minutes."""

    words: int
    exercises: dict[str, int]


def lesson(text: str) -> Lesson:
    """Return what a section asks of its reader; solutions are not counted."""
    found = {match["label"]: int(match["minutes"]) for match in EXERCISE.finditer(text)}
    main = text.split("\n## Exercises", 1)[0]
    prose = NO_PROSE.sub(" ", EQUATION.sub(" ", without_cells(main)))
    return Lesson(len(WORD.findall(prose)), found)


class Lessons(SphinxDirective):
    """``{lessons}``: one page's name a line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, so that sections and exercises are links."""
        speed = self.config.book_reading_speed
        rows = ["| section | to\N{NO-BREAK SPACE}read | exercises |", "| --- | --- | --- |"]
        read, solve = 0, 0
        for name in (line.strip() for line in self.content if line.strip()):
            path = Path(self.env.doc2path(name))
            if not path.is_file():
                where = self.get_location()
                logger.warning("{lessons}: there is no page %s", name, location=where, type="book")
                continue
            self.env.note_dependency(str(path))
            words, exercises = lesson(path.read_text("utf8"))
            minutes = round(words / speed)
            read, solve = read + minutes, solve + sum(exercises.values())
            links = ", ".join(f"{{ref}}`{label}` ({duration(m)})" for label, m in exercises.items())
            rows.append(f"| {{doc}}`/{name}` | {duration(minutes)} | {links} |")
        rows.append(f"| **together** | **{duration(read)}** | **{duration(solve)}** |")
        box = nodes.container(classes=["lessons"])
        self.state.nested_parse(StringList(rows, self.get_location()), 0, box)
        return [box]


def duration(minutes: int) -> str:
    """Return a time in hours and minutes, which no line breaks."""
    hours, rest = divmod(minutes, 60)
    said = f"{hours} h {rest} min" if hours else f"{rest} min"
    return said.replace(" ", "\N{NO-BREAK SPACE}")


class ReadingSpeed(SphinxRole):
    """``{reading-speed}`words a minute```: the speed before the words."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Put the number before the text."""
        return [nodes.Text(f"{self.config.book_reading_speed} {self.text}")], []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("book_reading_speed", 120, "env", int)
    app.add_directive("lessons", Lessons)
    app.add_role("reading-speed", ReadingSpeed())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
