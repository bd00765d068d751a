"""`Explore`: one figure with sliders, for a live kernel and for the static page alike.

In a live kernel an `Explore` displays ipywidgets sliders which redraw the figure. Where the
environment variable `BOOK_STATIC` is set (the build and its tests), it draws every frame
beforehand and displays native range inputs, the middle frame as inline SVG, and all frames packed
as JSON; `assets/explore.js` swaps them. An `Explore` without values is a plain figure.
"""

import base64
import html
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from rl_helpers import plots
from rl_helpers.frames import pack, png, svg, tags

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "epsilon": "ε", "eta": "η", "theta": "θ", "lambda_": "λ",
}  # fmt: skip
MILLISECONDS_PER_FRAME = 80  # of a figure that plays


class Explore:
    """A figure that the reader can explore with zero, one or two sliders.

    Args:
        name: short unique name, lower-case words joined by hyphens.
        draw: called as `draw(fig, **values)` with an empty matplotlib figure in the house style
            and one value per slider; draws, and returns the alt text: what a sighted reader
            concludes from this frame.
        size: width and height in inches; 6.4 is the width of the text.
        labels: for a slider's argument name, what the reader sees; by default its Greek letter or
            its name.
        start: for a slider's argument name, the value shown first; by default the middle one.
        play: argument name of a slider over time, which gets a button that plays its values.
        **values: for each slider, the values it steps through (at least two).

    Raises:
        ValueError: a bad name, an empty grid of values, more than two sliders, a `start` or label
            that fits no slider; when drawn: no alt text, frames of different structure, a slider
            that moves nothing.
    """

    def __init__(
        self,
        name: str,
        draw: Callable[..., str],
        *,
        size: tuple[float, float] = (6.4, 3.0),
        labels: Mapping[str, str] | None = None,
        start: Mapping[str, Any] | None = None,
        play: str | None = None,
        **values: Sequence[Any] | np.ndarray,
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            raise ValueError(f"name is {name!r}; allowed are lower-case words joined by hyphens")
        if len(values) > 2:
            raise ValueError(
                f"explorer {name} has {len(values)} sliders ({', '.join(values)}); at most two are allowed"
            )
        self.name, self.draw, self.size = name, draw, size
        self.values = {key: [_plain(v) for v in grid] for key, grid in values.items()}
        for key, grid in self.values.items():
            if len(grid) < 2:
                raise ValueError(
                    f"slider {key} of explorer {name} has {len(grid)} values; it needs at least two"
                )
        for argument, given in {"labels": labels or {}, "start": start or {}}.items():
            if unknown := set(given) - set(values):
                raise ValueError(
                    f"{argument} of explorer {name} names {sorted(unknown)}; sliders are {sorted(values)}"
                )
        if play is not None and play not in values:
            raise ValueError(
                f"play of explorer {name} is {play!r}; it must name a slider: {sorted(values)}"
            )
        self.play = play
        self.labels = {key: (labels or {}).get(key, GREEK.get(key, key)) for key in values}
        self.first = {key: len(grid) // 2 for key, grid in self.values.items()}
        for key, value in (start or {}).items():
            if value not in self.values[key]:
                raise ValueError(
                    f"start of slider {key} of explorer {name} is {value}; values are {self.values[key]}"
                )
            self.first[key] = self.values[key].index(value)

    # -- frames
    # ---------------------------------------------------------------------------------------------

    def frame(self, **values: Any) -> tuple[Figure, str]:
        """Draw one frame.

        Returns:
            The matplotlib figure and its alt text.
        """
        with mpl.rc_context(plots.STYLE):
            figure = Figure(figsize=self.size)
            alt = self.draw(figure, **values)
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(
                f"draw of explorer {self.name} returned no alt text at {_where(values)}"
            )
        return figure, " ".join(alt.split())

    def _all_frames(self) -> tuple[list[list[str]], list[str]]:
        """Every frame's SVG as a list of tags, last slider fastest, and every alt text."""
        frames: list[list[str]] = []
        alts: list[str] = []
        layout: tuple[Any, ...] = ()
        for point in itertools.product(*self.values.values()):
            values = dict(zip(self.values, point, strict=True))
            figure, alt = self.frame(**values)
            structure = tuple((axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes)
            if frames and structure != layout:
                raise ValueError(
                    f"frames of explorer {self.name} differ in structure: at {_where(values)} the axes are "
                    f"{structure}, in the first frame {layout}"
                )
            layout = structure
            frames.append(tags(svg(figure, self.name)))
            alts.append(alt)
        shape = [len(grid) for grid in self.values.values()]
        for axis, key in enumerate(self.values):
            numbers = (
                np.arange(len(frames)).reshape(shape).swapaxes(0, axis).reshape(shape[axis], -1)
            )
            if all(frames[i] == frames[j] for row in numbers.T for i, j in itertools.pairwise(row)):
                raise ValueError(
                    f"slider {key} of explorer {self.name} moves nothing: all of its frames are the same"
                )
        return frames, alts

    # -- display
    # --------------------------------------------------------------------------------------------

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        if os.environ.get("BOOK_STATIC"):
            return self._static()
        if not self.values:
            figure, alt = self.frame()
            return {"text/html": _image(figure, alt), "text/plain": alt}
        return self._widget()._repr_mimebundle_()

    def _static(self) -> tuple[dict[str, Any], dict[str, Any]]:
        frames, alts = self._all_frames()
        shape = [len(grid) for grid in self.values.values()]
        shown = int(np.ravel_multi_index(list(self.first.values()), shape)) if shape else 0
        figure, alt = self.frame(
            **{key: grid[self.first[key]] for key, grid in self.values.items()}
        )
        data = {
            "text/plain": f"{self.name}: {alt}",
            "text/html": self._markup(frames, alts, shown),
            "image/png": png(figure),
        }
        record = {
            "name": self.name,
            "sliders": list(self.values),
            "frames": len(frames),
            "alt": alt,
            "runs": plots.runs_shown(figure),
        }
        return data, {"rl_figure": record}

    def _markup(self, frames: list[list[str]], alts: list[str], shown: int) -> str:
        picture = (
            f'<div class="explore-figure" role="img" aria-label="{html.escape(alts[shown])}">'
            f"{''.join(frames[shown])}</div>"
        )
        if not self.values:
            return f'<div class="explore" data-explore="{self.name}">{picture}</div>'
        controls = []
        for key, grid in self.values.items():
            ident, at = f"explore-{self.name}-{key.replace('_', '-')}", self.first[key]
            controls.append(
                f'<div class="explore-control"><label for="{ident}">{html.escape(self.labels[key])}</label>'
                f'<input type="range" id="{ident}" min="0" max="{len(grid) - 1}" step="1" value="{at}" '
                f'aria-valuetext="{html.escape(_text(grid[at]))}">'
                f'<output for="{ident}">{html.escape(_text(grid[at]))}</output></div>'
            )
        if self.play:
            which = list(self.values).index(self.play)
            controls.append(
                f'<button type="button" class="explore-play" data-slider="{which}" '
                f'data-milliseconds="{MILLISECONDS_PER_FRAME}" hidden>play</button>'
            )
        packed = pack(frames)
        packed["values"] = [[_text(v) for v in grid] for grid in self.values.values()]
        packed["alts"] = alts
        code = json.dumps(packed, ensure_ascii=False, separators=(",", ":")).replace("</", r"<\/")
        return (
            f'<div class="explore" data-explore="{self.name}">{picture}'
            f'<div class="explore-controls" hidden>{"".join(controls)}</div>'
            '<noscript><p class="explore-noscript">The slider needs JavaScript; '
            "this is its first position.</p></noscript>"
            f'<script type="application/json" class="explore-pack">{code}</script></div>'
        )

    def _widget(self) -> Any:
        import ipywidgets

        sliders = {
            key: ipywidgets.SelectionSlider(
                options=[(_text(v), v) for v in grid],
                index=self.first[key],
                description=self.labels[key],
                style={"description_width": "initial"},
                layout={"width": "min(100%, 32em)"},
            )
            for key, grid in self.values.items()
        }
        picture = ipywidgets.HTML()

        def redraw(_: Any = None) -> None:
            picture.value = _image(
                *self.frame(**{key: slider.value for key, slider in sliders.items()})
            )

        for slider in sliders.values():
            slider.observe(redraw, names="value")
        redraw()
        controls = list(sliders.values())
        if self.play:
            slider = sliders[self.play]
            player = ipywidgets.Play(max=len(slider.options) - 1, interval=MILLISECONDS_PER_FRAME)
            ipywidgets.jslink((player, "value"), (slider, "index"))
            controls.append(player)
        return ipywidgets.VBox([*controls, picture])


def _image(figure: Figure, alt: str) -> str:
    data = base64.b64encode(png(figure)).decode()
    style = "max-width: 100%; width: 46em"
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="{style}">'


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _text(value: Any) -> str:
    """What the reader sees of a slider's value; numbers get a true minus sign."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return (f"{value:.4g}" if isinstance(value, float) else f"{value}").replace("-", "−")


def _where(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "its only frame"
