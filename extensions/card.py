"""The card that other sites show for a link to the book: one picture, drawn while building.

Only a book whose address is known (BOOK_URL) has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Arc
from sphinx.application import Sphinx
from sphinx.config import Config

from rl_helpers import plots

NAME = "card.png"
SIZE = (1200, 630)  # pixels
ALT = "The Bellman equation with a tick beside it, and the title of the book"
EQUATION = r"$V^\pi(s) = \sum_a\, \pi(a \,|\, s)\,[R(s, a) + \gamma \sum_{s'}\, P(s' \,|\, s, a)\,V^\pi(s')]$"
SAID = "Equations and training runs, executed: what does not hold is not built."
PAGE, ACCENT, TICK = "#fdfcfa", "#17596d", "#b8560f"  # as in assets/book.css


def draw(path: Path, title: str) -> None:
    """Draw the card of a book with this title."""
    width, height = SIZE
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAGE)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        axes.add_patch(Arc((130, 130), 75, 75, theta1=0, theta2=302, color=ACCENT, lw=9))
        axes.plot([112, 126, 163], [128, 148, 105], color=TICK, lw=9, solid_capstyle="round")
        axes.text(195, 130, title, size=41, weight="semibold", va="center")
        axes.text(92, 325, EQUATION, size=36, va="center")
        axes.text(1065, 320, "✓", size=42, va="center", color=plots.GREEN)
        axes.text(92, 500, SAID, size=25, color=plots.MUTED, va="center")
        axes.axhline(height - 9, color=ACCENT, lw=26)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100, facecolor=PAGE, bbox_inches=None, transparent=False)


def name_card(app: Sphinx, config: Config) -> None:
    """Tell sphinxext.opengraph where the card will be."""
    config.ogp_image = f"{config.book_url.rstrip('/')}/_static/{NAME}"
    config.ogp_image_alt = ALT


def draw_card(app: Sphinx) -> None:
    """Draw it beside the pages."""
    if app.builder.format == "html":
        draw(Path(app.outdir) / "_static" / NAME, app.config.project)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", name_card)
    app.connect("builder-inited", draw_card)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
