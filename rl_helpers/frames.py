"""A figure as SVG for the page, and all frames of an explorer packed into one JSON.

A packed frame is a list of SVG tags, kept as numbers into a vocabulary that all frames share. The
packing loses nothing. What frames have in common is left to the web server's compression.
"""

import io
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from rl_helpers import plots


def svg(figure: Figure, name: str) -> str:
    """A figure as inline SVG, with short numbers, ids of its own, and colours that follow the theme."""
    buffer = io.StringIO()
    with mpl.rc_context({**plots.STYLE, "svg.hashsalt": name, "svg.fonttype": "path"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    markup = buffer.getvalue()
    markup = markup[markup.index("<svg") :]
    # Matplotlib's <style> has one rule, for everything in the page: it goes to the root element, or
    # the browser would restyle the whole page at each new frame.
    junk = r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>"
    markup = re.sub(junk, "", markup, flags=re.DOTALL)
    markup = re.sub(r"\s*\n\s*", " ", markup).replace("> <", "><")
    # The box scales with the text column; role and alt text belong to the element around it.
    markup = re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true" stroke-linejoin="round" stroke-linecap="butt">',
        markup,
    )
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', markup))
    markup = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", markup
    )
    markup = re.sub(
        r'(xlink:href="#|url\(#)', lambda m: f"{m[1].removeprefix('xlink:')}{name}-", markup
    )
    markup = re.sub(r"scale\([^)]*\)|-?\d+\.\d+(?:e-?\d+)?", _shorter, markup)
    markup = re.sub(r'(?<= d=")[^"]+', _relative, markup)
    for colour, variable in plots.THEMED.items():
        markup = re.sub(rf"{colour}\b", f"var({variable},{colour})", markup, flags=re.IGNORECASE)
    return markup


def png(figure: Figure) -> bytes:
    """A figure as PNG at 144 dots per inch, on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(plots.STYLE):
        figure.savefig(
            buffer, format="png", dpi=144, facecolor="white", metadata={"Software": None}
        )
    return buffer.getvalue()


def pack(frames: list[list[str]]) -> dict[str, Any]:
    """Pack frames without loss: one vocabulary of tags, and each frame as numbers into it.

    Args:
        frames: each frame's tags.

    Returns:
        `vocabulary`: the distinct tags, frequent ones first, then by their place in a frame, so
        that similar tags and numbers stand together and compress well; `frames`: the numbers of
        each frame's tags.
    """
    counts = Counter(tag for frame in frames for tag in frame)
    places = itertools.zip_longest(*frames)  # None where a frame has ended
    by_place = dict.fromkeys(tag for place in places for tag in place if tag is not None)
    vocabulary = sorted(by_place, key=lambda tag: -counts[tag])
    numbers = {tag: number for number, tag in enumerate(vocabulary)}
    return {"vocabulary": vocabulary, "frames": [[numbers[tag] for tag in f] for f in frames]}


def unpack(packed: Mapping[str, Any], frame: int) -> str:
    """The SVG of one packed frame; what `assets/explore.js` does in the page."""
    return "".join(packed["vocabulary"][number] for number in packed["frames"][frame])


def tags(markup: str) -> list[str]:
    """Return an SVG cut into its tags, each with the text that follows it."""
    return re.findall(r"<[^>]*>[^<]*", markup)


def _shorter(match: re.Match[str]) -> str:
    text = match[0]  # a glyph's scale keeps its digits: at two of them letters would change size
    return text if text.startswith("scale") else _number(float(text))


def _number(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _relative(match: re.Match[str]) -> str:
    """The same path, told from point to point: small numbers compress well, and none is lost."""
    path, before, here = "", "", [0.0, 0.0]
    for command, written in re.findall("([MLQCz])([^MLQCz]*)", match[0]):
        points = [float(number) for number in written.split()]
        if command in "LQC":
            steps = [_number(value - here[i % 2]) for i, value in enumerate(points)]
            path += " " if command == before else command.lower()
            path += " ".join(steps)
        else:
            path += command + " ".join(map(_number, points))
        here, before = points[-2:] or here, command
    return path
