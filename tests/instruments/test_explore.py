"""Explorers: what a reader without a kernel gets, what a live notebook gets, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import ipywidgets
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from rl_helpers import plots
from rl_helpers.explore import Explore
from rl_helpers.frames import pack, svg, unpack
from tools.environment import ROOT

GAMMAS, STEPS = np.array([0.5, 0.9, 0.99]), [1, 2]


def draw(fig: Figure, gamma: float = 0.5, k: int = 1) -> str:
    ax = fig.subplots()
    for number, color in enumerate([plots.BLUE, plots.ORANGE, plots.GREEN], start=1):
        ax.plot([0, 1], [0, number * gamma], color=color, label=f"run {number}")
    ax.scatter([0.123456789], [gamma], color=plots.PURPLE)
    ax.set(xlabel="steps", ylabel=r"value $\gamma^k$", ylim=(0, k), title="</p>")
    ax.legend()
    return f"At {gamma} </script> &  the\nline rises to {k}"


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOK_STATIC", "1")


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOK_STATIC", raising=False)


def shown(explore: Explore) -> tuple[dict[str, Any], dict[str, Any]]:
    return explore._repr_mimebundle_()


class Elements(HTMLParser):
    """All elements of a piece of HTML, and the text of scripts."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.script = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.found[-1][0] == "script":
            self.script += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]

    def one(self, name: str) -> dict[str, str]:
        """The only element of a class."""
        (found,) = (a for _, a in self.found if name in a.get("class", "").split())
        return found


# ---- The static page ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explorer() -> tuple[dict[str, Any], dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_STATIC", "1")
        return shown(Explore("two-lines", draw, gamma=GAMMAS, k=STEPS, start={"k": 1}))


@pytest.fixture(scope="module")
def page(explorer: tuple[dict[str, Any], dict[str, Any]]) -> Elements:
    return Elements(explorer[0]["text/html"])


def test_bundle(explorer: tuple[dict[str, Any], dict[str, Any]]) -> None:
    data, metadata = explorer
    # the middle of three gammas, and the k that was asked for, which is also the first of two
    alt = "At 0.9 </script> & the line rises to 1"
    assert set(data) == {"text/plain", "text/html", "image/png"}
    assert data["text/plain"] == f"two-lines: {alt}"
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata == {
        "rl_figure": {
            "name": "two-lines",
            "sliders": ["gamma", "k"],
            "frames": 6,
            "alt": alt,
            "runs": [],
        }
    }


def test_structure(page: Elements) -> None:
    assert page.one("explore")["data-explore"] == "two-lines"
    figure = page.one("explore-figure")
    assert figure["role"] == "img"
    assert figure["aria-label"] == "At 0.9 </script> & the line rises to 1"
    assert "hidden" in page.one("explore-controls"), "without JavaScript no dead slider is shown"
    assert page.all("noscript")
    assert page.one("explore-pack")["type"] == "application/json"
    gamma, k = page.all("input")
    ident = "explore-two-lines-gamma"
    assert gamma == {
        "type": "range", "id": ident, "min": "0", "max": "2", "step": "1", "value": "1",
        "aria-valuetext": "0.9",
    }  # fmt: skip
    assert (k["max"], k["value"], k["aria-valuetext"]) == ("1", "0", "1")
    assert [e["for"] for e in page.all("label")] == [ident, "explore-two-lines-k"]
    assert [e["for"] for e in page.all("output")] == [ident, "explore-two-lines-k"]


def test_labels(static: None) -> None:
    markup = shown(Explore("a", draw, gamma=GAMMAS, k=STEPS, labels={"k": "top & more"}))[0]
    names = re.findall(r"<label [^>]*>(.*?)</label>", markup["text/html"])
    assert names == ["γ", "top &amp; more"]


def test_pack_holds_all_frames_last_slider_fastest(page: Elements) -> None:
    packed = json.loads(page.script)
    assert packed["values"] == [["0.5", "0.9", "0.99"], ["1", "2"]]
    points = [(gamma, k) for gamma in GAMMAS for k in STEPS]
    assert [re.findall(r"[\d.]+", alt) for alt in packed["alts"]] == [
        [f"{gamma}", f"{k}"] for gamma, k in points
    ]
    for number, (gamma, k) in enumerate(points):
        figure, _ = Explore("two-lines", draw).frame(gamma=gamma, k=k)
        assert unpack(packed, number) == svg(figure, "two-lines")


def test_pack_is_what_the_script_expects(page: Elements) -> None:
    packed = json.loads(page.script)
    assert set(packed) == {"vocabulary", "frames", "values", "alts"}
    assert len(packed["frames"]) == len(packed["alts"]) == 6
    every = range(len(packed["vocabulary"]))
    assert {number for frame in packed["frames"] for number in frame} == set(every)


def test_first_shown_frame_is_in_the_page(explorer: tuple[dict[str, Any], dict[str, Any]]) -> None:
    markup = explorer[0]["text/html"]
    packed = json.loads(Elements(markup).script)
    assert f'">{unpack(packed, 2)}</div>' in markup  # gamma 0.9 is row 1, k 1 is column 0


def test_closing_tags_are_escaped(explorer: tuple[dict[str, Any], dict[str, Any]]) -> None:
    markup = explorer[0]["text/html"]
    code = markup.split('class="explore-pack">')[1].removesuffix("</script></div>")
    assert "</" not in code
    assert "At 0.5 </script> & the line rises to 1" in json.loads(code)["alts"]


# ---- One frame ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame() -> str:
    return svg(Explore("two-lines", draw).frame()[0], "two-lines")


def test_svg_scales_and_leaves_words_to_the_element_around_it(frame: str) -> None:
    start = frame.partition(">")[0]
    assert start.startswith('<svg viewBox="0 0 460.8 216" aria-hidden="true"')  # 6.4 in at 72
    assert "width=" not in start
    assert not re.search("<metadata|<!--|<title", frame)


def test_ids_are_prefixed_unique_and_used(frame: str) -> None:
    ids = re.findall(r' id="([^"]*)"', frame)
    assert len(ids) == len(set(ids)) > 10
    assert all(name.startswith("two-lines-") for name in ids)
    assert set(ids) == set(re.findall(r'(?:href="#|url\(#)([^")]+)', frame))
    assert "xlink" not in frame


def test_colours_follow_the_theme(frame: str) -> None:
    themed = re.findall(r"var\((--fig-[a-z]+),(#[0-9a-f]{6})\)", frame)
    assert {(variable, colour) for colour, variable in plots.THEMED.items()} >= set(themed)
    variables = {variable for variable, _ in themed}
    assert variables >= {"--fig-ink", "--fig-muted", "--fig-grid", "--fig-blue", "--fig-purple"}
    rest = re.sub(r"var\([^)]*\)", "", frame)
    assert re.findall(r"#[0-9a-fA-F]{6}\b", rest) == [], "a colour that the dark page cannot change"


def test_background_is_transparent(frame: str) -> None:
    first = re.findall(r"<path[^>]*>", frame)[:2]  # the figure's and the axes' patches
    assert all("fill: none" in path for path in first)


def test_numbers_are_short_but_glyphs_keep_their_size(frame: str) -> None:
    assert "scale(0.015625)" in frame, "outlines of letters are drawn at 1/64"
    rest = re.sub(r"scale\([^)]*\)", "", frame)
    assert not re.search(r"\.\d{3}", rest)


def test_letters_are_paths_of_the_books_type(frame: str) -> None:
    assert "<text" not in frame
    assert "SourceSansPro" in frame


def test_alt_text_is_one_line() -> None:
    assert Explore("a", draw).frame()[1] == "At 0.5 </script> & the line rises to 1"


def test_a_path_told_from_point_to_point_ends_where_it_should() -> None:
    """No error adds up: after 2,000 points the path is still within a hundredth of a point."""
    figure = Figure(figsize=(6.4, 3))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 2_000), ylim=(-1, 1))
    x, y = np.arange(2_000), np.sin(np.arange(2_000) ** 2)
    with mpl.rc_context({"path.simplify": False}):
        ax.plot(x, y, color=plots.GREEN)
        (told,) = re.findall('d="M([^"]*)"[^>]*--fig-green', svg(figure, "line"))
    steps = np.array(told.replace("l", " ").split(), float).reshape(-1, 2)
    assert len(steps) == len(x)
    expected = ax.transData.transform(np.column_stack([x, y])) * 72 / figure.dpi
    expected[:, 1] = 216 - expected[:, 1]
    np.testing.assert_allclose(steps.cumsum(axis=0), expected, atol=0.0051)


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12), min_size=1, max_size=6))
def test_packing_loses_nothing(frames: list[list[str]]) -> None:
    packed = json.loads(json.dumps(pack(frames)))
    assert [unpack(packed, n) for n in range(len(frames))] == ["".join(f) for f in frames]
    assert len(set(packed["vocabulary"])) == len(packed["vocabulary"])


def test_tags_are_numbered_by_frequency_and_then_by_place() -> None:
    frames = [["b", "a", "c"], ["d", "a", "d", "e"]]
    assert pack(frames) == {
        "vocabulary": ["d", "a", "b", "c", "e"],
        "frames": [[2, 1, 3], [0, 1, 0, 4]],
    }


# ---- The same every time ------------------------------------------------------------------------

AGAIN = """
import hashlib, sys
sys.path.insert(0, {root!r})
from tests.instruments.test_explore import Explore, draw, GAMMAS, STEPS
from tools.environment import ROOT
data, _ = Explore("two-lines", draw, gamma=GAMMAS, k=STEPS, start={{"k": 1}})._repr_mimebundle_()
print(hashlib.sha256(data["text/html"].encode() + data["image/png"]).hexdigest())
"""


def test_bytes_are_the_same_twice_and_in_another_process(
    explorer: tuple[dict[str, Any], dict[str, Any]], static: None
) -> None:
    again = shown(Explore("two-lines", draw, gamma=GAMMAS, k=STEPS, start={"k": 1}))[0]
    assert again == explorer[0]
    done = subprocess.run(
        [sys.executable, "-c", AGAIN.format(root=str(ROOT))],
        capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mine = hashlib.sha256(again["text/html"].encode() + again["image/png"]).hexdigest()
    assert done.stdout.strip() == mine


# ---- Without sliders ----------------------------------------------------------------------------


def test_plain_figure(static: None) -> None:
    data, metadata = shown(Explore("plain", draw))
    page = Elements(data["text/html"])
    assert page.one("explore")["data-explore"] == "plain"
    assert page.one("explore-figure")["aria-label"].startswith("At 0.5")
    assert not page.all("input")
    assert not page.all("script")
    assert metadata["rl_figure"]["sliders"] == []
    assert metadata["rl_figure"]["frames"] == 1


def test_plain_figure_in_a_live_kernel(live: None) -> None:
    data: Any = Explore("plain", draw)._repr_mimebundle_()
    (image,) = Elements(data["text/html"]).all("img")
    assert image["alt"] == "At 0.5 </script> & the line rises to 1"
    assert base64.b64decode(image["src"].partition(",")[2]).startswith(b"\x89PNG")


# ---- Live ---------------------------------------------------------------------------------------


def test_live_sliders_redraw(live: None) -> None:
    explore = Explore("two-lines", draw, gamma=GAMMAS, k=STEPS, start={"k": 1})
    widget = explore._widget()
    gamma, k, picture = widget.children
    assert isinstance(gamma, ipywidgets.SelectionSlider)
    assert isinstance(picture, ipywidgets.HTML)
    assert (gamma.value, k.value, gamma.description, k.description) == (0.9, 1, "γ", "k")
    assert "At 0.9" in picture.value
    before = picture.value
    gamma.value = 0.5
    assert "At 0.5" in picture.value
    assert Elements(picture.value).all("img")[0]["src"] != Elements(before).all("img")[0]["src"]
    k.value = 2
    assert "rises to 2" in picture.value


def test_live_bundle_is_a_widget(live: None) -> None:
    bundle: Any = Explore("two-lines", draw, gamma=GAMMAS)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle


# ---- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Two lines", {}, "name is 'Two lines'; allowed are lower-case words joined by hyphens"),
        ("a", {"gamma": []}, "slider gamma of explorer a has 0 values; it needs at least two"),
        ("a", {"gamma": np.array([0.5])}, "slider gamma of explorer a has 1 values"),
        ("a", {"gamma": [1, 2], "k": [1, 2], "m": [1, 2]},
         "explorer a has 3 sliders (gamma, k, m); at most two are allowed"),
        ("a", {"gamma": [1, 2], "start": {"beta": 1}},
         "start of explorer a names ['beta']; sliders are ['gamma']"),
        ("a", {"gamma": [1, 2], "labels": {"beta": "β"}},
         "labels of explorer a names ['beta']; sliders are ['gamma']"),
        ("a", {"gamma": [1, 2], "start": {"gamma": 3}},
         "start of slider gamma of explorer a is 3; values are [1, 2]"),
    ],
)  # fmt: skip
def test_bad_arguments(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Explore(name, draw, **options)
    assert message in str(caught.value)


def silent(fig: Figure, k: int) -> str:
    draw(fig)
    return "A line" if k < 2 else " "


def mute(fig: Figure, k: int) -> Any:
    draw(fig)


def relabelled(fig: Figure, k: int) -> str:
    fig.subplots().set_xlabel("steps" if k < 2 else "episodes")
    return "A line"


def panels(fig: Figure, k: int) -> str:
    fig.subplots(1, k)
    return "A line"


def dead(fig: Figure, k: int) -> str:
    return draw(fig) + str(k)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (silent, "draw of explorer a returned no alt text at k=2"),
        (mute, "draw of explorer a returned no alt text at k=1"),
        (relabelled, "frames of explorer a differ in structure: at k=2 the axes are "
                     "(('episodes', ''),), in the first frame (('steps', ''),)"),
        (panels, "frames of explorer a differ in structure: at k=2"),
        (dead, "slider k of explorer a moves nothing: all of its frames are the same"),
    ],
)  # fmt: skip
def test_bad_frames(static: None, function: Callable[..., str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        shown(Explore("a", function, k=STEPS))
    assert message in str(caught.value)


def test_one_dead_slider_of_two_is_named(static: None) -> None:
    def first_only(fig: Figure, gamma: float, k: int) -> str:
        return draw(fig, gamma)

    with pytest.raises(ValueError, match="slider k of explorer a moves nothing"):
        shown(Explore("a", first_only, gamma=GAMMAS, k=STEPS))


def test_no_alt_text_in_a_plain_figure() -> None:
    with pytest.raises(ValueError, match="returned no alt text at its only frame"):
        Explore("a", lambda fig: "").frame()
