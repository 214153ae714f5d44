"""The chat page in a real browser over three real donors, which rest between steps so that one can watch.

``IDLEBLOOM_SCREENSHOTS=FOLDER`` makes it keep pictures of the pages there: those of docs/images,
at the donors' own speed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from core.model.text import Pieces, Text
from core.paths import bundled_model
from tests.browser import complaints, open_browser, view
from tests.end_to_end.programs import Program, folder
from tests.end_to_end.real_page import WATCH, Page

pytestmark = pytest.mark.chromium

REST_SECONDS = 0.05
"""Of each of the three donors: a token takes about 0.15 s."""
TOO_QUICK = pytest.mark.skipif(
    "IDLEBLOOM_SCREENSHOTS" in os.environ, reason="for pictures answers are too quick"
)


@dataclass
class DemoPage(Page):
    program: Program


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoPage]:
    with folder() as place, open_browser(tmp_path_factory.mktemp("chromium")) as chrome:
        rest = 0.0 if "IDLEBLOOM_SCREENSHOTS" in os.environ else REST_SECONDS
        options = ("--json", "--no-browser", "--port", "0", "--rest", str(rest))
        program = place.start("demo", *options, environment={"IDLEBLOOM_LOG": "debug"})
        url = program.ready()["url"]
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        view(chrome, 1280, 800)
        chrome.get(f"{url}/")
        opened = DemoPage(chrome, f"{url}/", program)
        opened.wait(lambda: len(opened.all("#questions button")) == 4)
        yield opened
        assert complaints(chrome) == []


def picture(page: Page, name: str) -> None:
    if wanted := os.environ.get("IDLEBLOOM_SCREENSHOTS"):
        page.chrome.save_screenshot(str(Path(wanted) / f"{name}.png"))


def drawn(program: Program) -> dict[int, float]:
    """When the tail drew the token of each position, by its log. Tokens drawn in one step share its time."""
    (log,) = program.temporary.glob("idlebloom-*/donor-3.log")
    times: dict[int, float] = {}
    for line in log.read_text().splitlines():
        if found := re.match(r"(\S+ \S+) worker DEBUG drew the token at position (\d+)", line):
            times[int(found[2])] = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007
    return times


def steps_of(times: dict[int, float]) -> list[tuple[int, float]]:
    """The first position and the time of each step."""
    steps: list[tuple[int, float]] = []
    for position, time in sorted(times.items()):
        if not steps or time - steps[-1][1] > REST_SECONDS:
            steps.append((position, time))
    return steps


def test_the_answer_is_shown_while_it_is_computed(page: DemoPage) -> None:
    """At least five states of the text, each on the page before the tail drew the token after next."""
    page.all("#questions button")[0].click()
    page.wait(lambda: page.states() == ["done"])
    (ended,) = page.heard("ended")
    steps = steps_of(drawn(page.program))
    assert steps[0][0] == ended["prompt_tokens"]
    pieces, text = Pieces(Text(bundled_model())), ""
    shown: dict[str, int] = {}
    for number, token in enumerate(ended["token_ids"]):
        text += pieces.feed(token)
        shown.setdefault(text.lstrip(), ended["prompt_tokens"] + number)
    states = page.seen(turn=1)
    assert len(states) >= 5
    assert all(later.startswith(earlier) for (_, earlier), (_, later) in pairwise(states))
    assert states[-1][1] == text.lstrip() or ended["finish"] == "stop"
    judged = 0
    for when, state in states:
        coming = [time for first, time in steps if first > shown[state]]
        if len(coming) >= 2:
            judged += 1
            assert when < coming[1], (state, when, coming[:2])
    assert judged >= 5


def test_the_route_and_the_speed_are_shown(page: Page) -> None:
    """Three donors with their layers, and the numbers of the answer."""
    assert re.search(r"3 donors · [\d.]+ tokens/s · first token [\d.]+ s", page.find(".summary").text)
    picture(page, "chat")
    page.find(".summary").click()
    assert len(page.all(".route li")) == 3
    held = [item.text for item in page.all(".route .holds")]
    assert held[0] == "words in, blocks 1 and 2" and held[2].endswith("words out")
    costs = [item.text for item in page.all(".route .cost")]
    assert all(re.search(r"[\d.]+ ms to compute · .*direct", cost) for cost in costs)
    words = page.find(".route .predicted").text
    assert re.search(r"promised [\d.]+ tokens/s by their distances and speeds; it was [\d.]+$", words)


def test_stop_and_ask_again(page: Page) -> None:
    """Stop ends the answer where it is; the next question goes on with what the donors hold."""
    page.find("#question").send_keys("Tell me a story", Keys.ENTER)
    page.wait(lambda: len(page.seen(turn=2)) >= 3)
    page.find("#stop").click()
    page.wait(lambda: page.states()[1:] == ["stopped"])
    stopped = page.heard("ended")[1]
    assert stopped["finish"] == "cancelled" and 0 < stopped["tokens"] < 40
    page.find("#question").send_keys("How does it work?", Keys.ENTER)
    page.wait(lambda: page.states()[2:] == ["done"])
    first, second, third = page.heard("started")
    assert first["reused_tokens"] == 0
    assert second["reused_tokens"] > first["prompt_tokens"]
    assert third["reused_tokens"] > second["prompt_tokens"]
    held = [[(stage["peer"], stage["start"]) for stage in one["route"]] for one in (first, second, third)]
    assert held[0] == held[1] == held[2]


def test_an_unplugged_donor_ends_no_answer(page: DemoPage) -> None:
    """A spare starts, then one donor loses its plug in the middle of an answer, which goes on over the
    spare; the demo goes on too."""
    before = len(page.program.workers())
    page.find("#unplug").click()
    page.wait(lambda: len(page.states()) == 4 and page.states()[3] in ("done", "failed", "stopped"), 90)
    assert page.states()[3] == "done"
    (unplugged,) = page.heard("unplugged")
    (moved,) = page.heard("moved")
    lost = unplugged["unplugged"]
    assert lost not in {stage["name"] for stage in moved["route"]}
    ended = page.heard("ended")[3]
    assert ended["finish"] == "stop" and ended["tokens"] > 8
    assert "moved to another donor" in page.all(".summary")[-1].text
    assert len(page.program.workers()) == before
    page.chrome.execute_script("document.activeElement.blur()")
    picture(page, "unplugged")
    page.all(".summary")[-1].click()
    assert f"{lost} was unplugged" in page.all(".route")[-1].text
    page.find("#question").send_keys("Thank you", Keys.ENTER)
    page.wait(lambda: page.states()[4:] == ["done"])


def test_the_swarm_page_shows_the_real_donors(page: Page) -> None:
    """A line and a row for each, and the same as JSON; every part of the model is held."""
    home = page.chrome.current_url
    page.chrome.get(home.partition("#")[0] + "swarm")
    page.wait(lambda: len(page.all("#rows tr")) >= 3)
    assert "is whole" in page.find("#summary").text
    assert not page.all("#map .layer.hole")
    page.wait(lambda: "not measured" not in page.find("#rows").text, 90)
    picture(page, "swarm")
    page.chrome.get(home)
    page.wait(lambda: page.states())


LIGHT, DARK = (1280, 800, "light"), (1280, 800, "dark")
PHONE, DARK_PHONE = (390, 844, "light"), (390, 844, "dark")


@pytest.mark.parametrize("screen", [LIGHT, DARK_PHONE], ids=str)
def test_a_talk_with_branches(page: Page, screen: tuple[int, int, str]) -> None:
    """Answered again, edited and asked again: each a branch, leafed through, and the donors keep what was
    computed up to the edit."""
    page.fresh(*screen)
    page.shorten(8)
    page.ask("What is Idlebloom?")
    page.done(1)
    page.find(".under [data-icon=again]").click()
    page.wait(lambda: page.each(".under .versions") == ["2/2"])
    page.done(1)
    page.find(".under [data-icon=left]").click()
    page.wait(lambda: page.each(".under .versions") == ["1/2"])
    page.ask("How does it work?")
    page.done(2)
    edit = page.all(".mine [data-icon=edit]")[1]
    page.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", edit)
    edit.click()
    ActionChains(page.chrome).send_keys(" And why?", Keys.ENTER).perform()
    page.wait(lambda: page.each(".you .text")[1:] == ["How does it work? And why?"])
    page.done(2)
    asked = page.heard("started")
    assert asked[3]["reused_tokens"] >= asked[2]["reused_tokens"] > 0
    assert page.each(".mine .versions") == ["2/2"]
    page.all(".mine [data-icon=left]")[0].click()
    page.wait(lambda: page.each(".you .text")[1:] == ["How does it work?"])
    page.all(".summary")[-1].click()
    assert len(page.all(".route:last-child li")) >= 3
    assert page.fits()
    page.chrome.refresh()
    page.done(2)
    assert page.each(".you .text") == ["What is Idlebloom?", "How does it work?"]


@TOO_QUICK
def test_a_reload_and_a_second_tab_show_the_whole_answer(page: Page) -> None:
    """It goes on without the page; both tabs hear the rest of it, and what is kept is the same."""
    page.fresh(*LIGHT)
    page.shorten(40)
    page.ask("Tell me a story")
    page.wait(lambda: page.answers() and len(page.answers()[0]) > 5)
    page.chrome.refresh()
    page.wait(lambda: page.states() == ["streaming"])
    address, first = page.chrome.current_url, page.chrome.current_window_handle
    page.chrome.switch_to.new_window("tab")
    try:
        page.chrome.get(address)
        page.wait(lambda: page.states() == ["streaming"])
        page.done(1)
        other = page.answers()
    finally:
        page.chrome.close()
        page.chrome.switch_to.window(first)
    page.done(1)
    kept = page.chrome.execute_script(
        "return fetch(`/api/conversations/${location.hash.slice(1)}/export`).then((answer) => answer.json())"
    )
    said = kept["messages"][1]
    assert (said["state"], said["facts"]["tokens"] > 20) == ("done", True)
    assert page.answers() == other == [said["text"].strip()]


@TOO_QUICK
@pytest.mark.parametrize("screen", [DARK, PHONE], ids=str)
def test_the_keyboard_alone_is_enough(page: Page, screen: tuple[int, int, str]) -> None:
    """Ask, stop, ask again, see the route, edit, begin a chat, find the old one, rename and delete it."""
    page.fresh(*screen)
    keys = ActionChains(page.chrome)

    def press(*strokes: str, held: tuple[str, ...] = ()) -> None:
        for one in held:
            keys.key_down(one)
        keys.send_keys(*strokes)
        for one in reversed(held):
            keys.key_up(one)
        keys.perform()

    def walk(what: str, wanted: str, *, back: bool = False) -> None:
        """Tab until that has the keyboard."""
        for _ in range(60):
            press(Keys.TAB, held=(Keys.SHIFT,) if back else ())
            if page.focused(what) == wanted:
                return
        raise AssertionError(f"no way to {wanted} by keyboard")

    assert page.focused("id") == "question"
    press("Tell me a story", Keys.ENTER)
    page.wait(lambda: page.answers() and len(page.answers()[0]) > 3)
    press(Keys.ESCAPE)
    page.wait(lambda: page.states() == ["stopped"])
    assert page.focused("id") == "question"
    walk("dataset.icon", "again", back=True)
    press(Keys.ENTER)
    page.wait(lambda: page.states() == ["streaming"])
    press(Keys.ESCAPE)
    page.wait(lambda: page.states() == ["stopped"] and page.each(".under .versions") == ["2/2"])
    walk("dataset.icon", "left", back=True)
    press(Keys.ENTER)
    page.wait(lambda: page.each(".under .versions") == ["1/2"])
    walk("className", "summary")
    press(Keys.ENTER)
    page.wait(lambda: len(page.all(".route li")) >= 3 and page.find(".route").is_displayed())
    walk("dataset.icon", "edit", back=True)
    press(Keys.ENTER)
    press(", a short one", Keys.ENTER)
    page.wait(lambda: page.each(".you .text") == ["Tell me a story, a short one"])
    page.wait(lambda: page.states() == ["streaming"])
    press(Keys.ESCAPE)
    page.wait(lambda: page.states() == ["stopped"])
    press("o", held=(Keys.CONTROL, Keys.SHIFT))
    page.wait(lambda: page.find("#welcome").is_displayed() and page.focused("id") == "question")
    press("k", held=(Keys.CONTROL,))
    page.wait(lambda: page.focused("id") == "search")
    press("A STORY")
    page.wait(lambda: page.each("#chats a")[:1] == ["Tell me a story"])
    walk("className", "more")
    press(Keys.ENTER)
    page.wait(lambda: page.focused("id") == "menu-rename")
    press(Keys.ENTER)
    press(f"Old story {screen[0]}", Keys.ENTER)
    page.wait(lambda: page.each("#chats a")[:1] == [f"Old story {screen[0]}"])
    press("k", held=(Keys.CONTROL,))
    page.wait(lambda: page.focused("id") == "search")
    walk("className", "more")
    press(Keys.ENTER)
    page.wait(lambda: page.focused("id") == "menu-rename")
    press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)
    page.wait(lambda: page.focused("id") == "dialog-no")
    press(Keys.TAB, Keys.ENTER)
    page.wait(lambda: f"Old story {screen[0]}" not in page.each("#chats a"))
    assert page.fits()


def test_chats_are_found_saved_and_deleted(page: Page) -> None:
    """On a phone: from the drawer, over what was really said."""
    page.fresh(*DARK_PHONE)
    page.shorten(6)
    page.ask("Do bees sleep?")
    page.done(1)
    page.find("#new").click()
    page.wait(lambda: page.states() == [])
    page.ask("Are there flowers at night?")
    page.done(1)
    page.find("#chats-button").click()
    page.find("#search").send_keys("at NIGHT")
    page.wait(lambda: page.each("#chats a") == ["Are there flowers at night?"])
    page.find("#chats .more").click()
    saved = page.chrome.execute_script(
        "return fetch(document.querySelector('#menu-markdown').href).then((answer) => answer.text())"
    )
    assert "## You\n\nAre there flowers at night?\n\n## Idlebloom" in saved
    assert page.answers()[0] in saved
    page.find("#menu-delete").click()
    page.find("#dialog-yes").click()
    page.wait(lambda: page.each("#chats a") == [] and page.states() == [])
    page.find("#chats-button").click()
    page.find("#search").send_keys(*[Keys.BACKSPACE] * 8)
    page.wait(lambda: page.each("#chats a") and page.find("#delete-all").is_displayed())
    page.find("#delete-all").click()
    page.find("#dialog-yes").click()
    page.wait(lambda: page.each("#chats a") == [])
    assert page.fits()
