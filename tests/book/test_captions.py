"""Captions are true in both themes."""

import re

import pytest

from tests.book.contents import NOTEBOOKS, text
from tools.sources import cells
from tools.typed_numbers import caption_of

# What is dark on a light page is light on a dark one.
SHADES = re.compile(r"\b(black|white|pale|(dark|light|bright)(er|est)?)\b", re.I)


def shades(caption: str) -> list[str]:
    return [match[0] for match in SHADES.finditer(caption)]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_caption_is_true_in_both_themes(name: str) -> None:
    for cell in cells(text(name)):
        line, caption = caption_of(cell)
        assert not shades(caption), (
            f"{name}.md:{line}: say strong or faint, which hold in both themes"
        )


@pytest.mark.parametrize("caption", ["cells are darker", "Black: the policy", "a pale cart"])
def test_a_shade_of_one_theme_is_found(caption: str) -> None:
    assert shades(caption)
