"""Explorers in a real Chromium, on a page that holds nothing else: the player, restored sliders,
and the frame shown first.

What the built book's pages show is tested in tests/book/test_browser.py.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from matplotlib.figure import Figure
from playwright.sync_api import Browser, Locator, Page, expect

from rl_helpers.explore import MILLISECONDS_PER_FRAME, Explore
from rl_helpers.frames import svg
from tests.book.browser import PATIENCE, Watch
from tools.environment import ROOT
from tools.site import served

GAMMAS, STEPS = [0.5, 0.9, 0.99, 0.995], [-1, 0, 1, 2, 3]
TICK = MILLISECONDS_PER_FRAME


def draw(fig: Figure, gamma: float = 0.5, k: int = 1) -> str:
    ax = fig.subplots()
    ax.plot([0, k, 4], [0, gamma, gamma**2])
    ax.set(xlim=(-2, 5), ylim=(0, 1))
    ax.set_axis_off()  # labels take most of the time
    return f"The line turns at k = {k}, where it has reached {gamma}"


PLAYED = Explore("played", draw, gamma=GAMMAS, k=STEPS, play="k", start={"k": 0})
FIRST_PLAYED = Explore("first-played", draw, k=STEPS, gamma=GAMMAS, play="k")
ONE_SLIDER = [
    Explore(f"start-{i}", draw, gamma=GAMMAS, start={"gamma": gamma})
    for i, gamma in enumerate(GAMMAS)
]
TWO_SLIDERS = [
    Explore(f"start-{i}-{j}", draw, gamma=GAMMAS[:2], k=STEPS[:3], start={"gamma": gamma, "k": k})
    for (i, gamma), (j, k) in itertools.product(enumerate(GAMMAS[:2]), enumerate(STEPS[:3]))
]
PAGES = {"player.html": [PLAYED, FIRST_PLAYED], "starts.html": ONE_SLIDER + TWO_SLIDERS}
FRAME = """
<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Explorers</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="book.css">
<script defer src="explore.js"></script></head>
<body><main><a href="elsewhere.html">elsewhere</a>{}</main></body></html>
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Pages of explorers as the build writes them, with the site's own script and style."""
    site = tmp_path_factory.mktemp("site")
    for name in ("explore.js", "book.css"):
        shutil.copy(ROOT / "assets" / name, site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_STATIC", "1")
        for page, explorers in PAGES.items():
            parts = [explore._repr_mimebundle_()[0]["text/html"] for explore in explorers]
            (site / page).write_text(FRAME.format("".join(parts)).strip(), "utf8")
    (site / "elsewhere.html").write_text(FRAME.format("").strip(), "utf8")
    with served(site) as address:
        yield address


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Page]:
    """A tab in which time stands still until the test moves it on, and in which all is quiet."""
    tab, watch = browser.new_page(), Watch(address)
    tab.set_default_timeout(PATIENCE * 1000)
    tab.clock.install(time=0)
    tab.clock.pause_at(1)
    watch.listen(tab)
    yield tab
    tab.close()
    assert not watch.problems


def explorer(tab: Page, explore: Explore) -> Locator:
    return tab.locator(f'[data-explore="{explore.name}"]')


def slider(tab: Page, explore: Explore, key: str) -> Locator:
    return explorer(tab, explore).locator("input").nth(list(explore.values).index(key))


def assert_shows(tab: Page, explore: Explore, **values: Any) -> None:
    """Sliders, words and figure are those of these values; drawn here anew."""
    box = explorer(tab, explore)
    said = [f"{value}".replace("-", "−") for value in values.values()]
    places = [str(explore.values[key].index(value)) for key, value in values.items()]
    sliders = box.locator("input").all()
    assert [one.input_value() for one in sliders] == places
    assert [one.get_attribute("aria-valuetext") for one in sliders] == said
    assert box.locator("output").all_text_contents() == said
    figure, alt = explore.frame(**values)
    expect(box.locator(".explore-figure")).to_have_attribute("aria-label", alt)
    # the browser writes some tags in another way: both go through it
    same = """
    (box, markup) => {
      const other = document.createElement("div");
      other.innerHTML = markup;
      return box.innerHTML === other.innerHTML;
    }
    """
    drawn = box.locator(".explore-figure").evaluate(same, svg(figure, explore.name))
    assert drawn, f"{explore.name}: the figure is not that of {values}"


# ---- The player ---------------------------------------------------------------------------------


def ticks(tab: Page, n: int) -> None:
    tab.clock.run_for(n * TICK)


@pytest.fixture
def play(tab: Page, address: str) -> Locator:
    """The button of the explorer that plays its second slider, from k = 0, the second of five."""
    tab.goto(address + "player.html")
    button = explorer(tab, PLAYED).get_by_role("button")
    expect(button).to_be_visible()
    expect(button).to_have_text("play")
    assert_shows(tab, PLAYED, gamma=0.99, k=0)
    return button


def test_it_plays_to_the_end_and_stops(tab: Page, play: Locator) -> None:
    ticks(tab, 3)
    assert_shows(tab, PLAYED, gamma=0.99, k=0)  # nobody has pressed it
    play.click()
    expect(play).to_have_text("pause")
    tab.clock.run_for(TICK - 1)
    assert_shows(tab, PLAYED, gamma=0.99, k=0)
    tab.clock.run_for(1)
    assert_shows(tab, PLAYED, gamma=0.99, k=1)
    ticks(tab, 1)
    assert_shows(tab, PLAYED, gamma=0.99, k=2)
    expect(play).to_have_text("pause")
    ticks(tab, 1)
    assert_shows(tab, PLAYED, gamma=0.99, k=3)
    expect(play).to_have_text("play")
    ticks(tab, 10)
    assert_shows(tab, PLAYED, gamma=0.99, k=3)
    assert_shows(tab, FIRST_PLAYED, k=1, gamma=0.99)  # the one beside it did not move


def test_it_plays_the_slider_that_was_named(tab: Page, play: Locator) -> None:
    explorer(tab, FIRST_PLAYED).get_by_role("button").click()
    ticks(tab, 1)
    assert_shows(tab, FIRST_PLAYED, k=2, gamma=0.99)
    assert_shows(tab, PLAYED, gamma=0.99, k=0)


def test_pause_holds_it_and_play_goes_on_from_there(tab: Page, play: Locator) -> None:
    play.click()
    ticks(tab, 1)
    play.click()
    expect(play).to_have_text("play")
    ticks(tab, 10)
    assert_shows(tab, PLAYED, gamma=0.99, k=1)
    play.click()
    ticks(tab, 1)
    assert_shows(tab, PLAYED, gamma=0.99, k=2)  # at its first pace, with one timer


def test_the_keyboard_plays_and_pauses(tab: Page, play: Locator) -> None:
    play.press("Enter")
    ticks(tab, 1)
    play.press("Space")
    ticks(tab, 5)
    assert_shows(tab, PLAYED, gamma=0.99, k=1)


def test_at_the_end_it_shows_the_first_frame_again(tab: Page, play: Locator) -> None:
    slider(tab, PLAYED, "k").press("End")
    play.click()
    assert_shows(tab, PLAYED, gamma=0.99, k=-1)


def test_at_the_end_it_plays_from_the_beginning(tab: Page, play: Locator) -> None:
    slider(tab, PLAYED, "k").press("End")
    play.click()
    expect(play).to_have_text("pause")
    for k in STEPS[1:]:
        ticks(tab, 1)
        assert_shows(tab, PLAYED, gamma=0.99, k=k)
    expect(play).to_have_text("play")


@pytest.mark.parametrize(("key", "k"), [("ArrowLeft", 0), ("ArrowRight", 2), ("Home", -1)])
def test_the_readers_hand_stops_it(tab: Page, play: Locator, key: str, k: int) -> None:
    play.click()
    ticks(tab, 1)
    slider(tab, PLAYED, "k").press(key)
    expect(play).to_have_text("play")
    assert_shows(tab, PLAYED, gamma=0.99, k=k)
    ticks(tab, 10)
    assert_shows(tab, PLAYED, gamma=0.99, k=k)
    play.click()  # and it goes on from where the hand left it
    ticks(tab, 1)
    assert_shows(tab, PLAYED, gamma=0.99, k=k + 1)


def test_a_hand_on_the_other_slider_lets_it_play(tab: Page, play: Locator) -> None:
    play.click()
    slider(tab, PLAYED, "gamma").press("Home")
    assert_shows(tab, PLAYED, gamma=0.5, k=0)
    ticks(tab, 2)
    assert_shows(tab, PLAYED, gamma=0.5, k=2)
    expect(play).to_have_text("pause")


def test_who_asked_for_less_motion_has_no_button(tab: Page, address: str) -> None:
    tab.emulate_media(reduced_motion="reduce")
    tab.goto(address + "player.html")
    expect(explorer(tab, PLAYED).locator(".explore-controls")).to_be_visible()
    expect(explorer(tab, PLAYED).locator("button")).to_be_hidden()
    expect(explorer(tab, FIRST_PLAYED).locator("button")).to_be_hidden()
    slider(tab, PLAYED, "k").press("End")
    assert_shows(tab, PLAYED, gamma=0.99, k=3)


# ---- Restored sliders ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["back", "reload"])
def test_sliders_that_the_browser_restores_have_their_figure(
    tab: Page, address: str, way: str
) -> None:
    tab.goto(address + "starts.html")
    one, two = ONE_SLIDER[0], TWO_SLIDERS[0]
    slider(tab, one, "gamma").press("End")
    slider(tab, two, "k").press("ArrowRight")
    assert_shows(tab, one, gamma=0.995)
    if way == "back":
        tab.get_by_role("link").click()
        tab.wait_for_url("**/elsewhere.html")
        tab.go_back()
    else:
        tab.reload()
    tab.wait_for_url("**/starts.html")
    expect(explorer(tab, one).locator(".explore-controls")).to_be_visible()
    if way == "back":
        assert slider(tab, one, "gamma").input_value() == "3", "the browser has kept it"
    # whatever the browser kept, words and figure are those of the sliders
    for explore in ONE_SLIDER + TWO_SLIDERS:
        values = {
            key: grid[int(slider(tab, explore, key).input_value())]
            for key, grid in explore.values.items()
        }
        assert_shows(tab, explore, **values)


# ---- The frame shown first ----------------------------------------------------------------------


def test_each_start_is_the_frame_shown_first(tab: Page, address: str) -> None:
    tab.goto(address + "starts.html")
    for explore in ONE_SLIDER + TWO_SLIDERS:
        first = {key: grid[explore.first[key]] for key, grid in explore.values.items()}
        assert_shows(tab, explore, **first)
        for key, grid in explore.values.items():  # one step on, and back
            at = explore.first[key]
            slider(tab, explore, key).press("ArrowRight")
            following = min(at + 1, len(grid) - 1)
            assert_shows(tab, explore, **{**first, key: grid[following]})
            slider(tab, explore, key).fill(str(at))
            assert_shows(tab, explore, **first)


def test_starts_cover_every_index() -> None:
    assert [explore.first for explore in ONE_SLIDER] == [{"gamma": i} for i in range(4)]
    assert [explore.first for explore in TWO_SLIDERS] == [
        {"gamma": i, "k": j} for i in range(2) for j in range(3)
    ]


def test_each_start_is_shown_without_javascript(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address + "starts.html")
    for explore in ONE_SLIDER + TWO_SLIDERS:
        first = {key: grid[explore.first[key]] for key, grid in explore.values.items()}
        assert_shows(tab, explore, **first)
        expect(explorer(tab, explore).locator(".explore-controls")).to_be_hidden()
    context.close()
