"""The chat page in a real browser over three real donors, in the states that no healthy swarm has: a licence
that is still to be accepted, a memory that is full, donors that are lost, a model with holes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from core.node.licences import RAIL
from core.routing.ask import Ask
from tests.axe import violations
from tests.browser import complaints, open_browser, view
from tests.end_to_end.real_page import WATCH, Page
from tests.end_to_end.swarm_here import SwarmHere, swarm_here
from webchat import answers

pytestmark = pytest.mark.chromium

LIGHT, DARK_PHONE = (1280, 800, "light"), (390, 844, "dark")
HOLES = "Blocks 3 to 6 have no donor"


@dataclass
class TroubledPage(Page):
    swarm: SwarmHere

    def looks_right(self, *screens: tuple[int, int, str]) -> None:
        """In these sizes and colours nothing is cut off, and axe-core finds nothing wrong."""
        for screen in screens:
            view(self.chrome, *screen)
            assert self.fits(), screen
            assert violations(self.chrome) == [], screen


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TroubledPage]:
    with (
        swarm_here(tmp_path_factory.mktemp("swarm")) as swarm,
        open_browser(tmp_path_factory.mktemp("chromium")) as chrome,
    ):
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        view(chrome, *LIGHT)
        chrome.get(f"{swarm.url}/")
        opened = TroubledPage(chrome, f"{swarm.url}/", swarm)
        opened.wait(lambda: opened.all("#questions button"))
        yield opened
        assert complaints(chrome) == []


def grown(page: TroubledPage, letters: int) -> None:
    """Until the newest answer has that many."""
    page.wait(lambda: page.answers() and len(page.answers()[-1]) >= letters)


def test_a_licence_is_asked_for_before_the_first_answer(page: TroubledPage) -> None:
    """With who can read what is typed. Until it is accepted nothing is answered, and the page says why; no
    browser asks again."""
    page.wait(lambda: page.find("#privacy").is_displayed())
    words = page.find("#privacy").text
    for part in ("compute your chat", "The first and the last", "internet address", "in public"):
        assert part in words
    assert "not encrypted" in words and "may not be used to break laws" in words
    page.looks_right(DARK_PHONE, LIGHT)
    ActionChains(page.chrome).send_keys(Keys.ESCAPE).perform()
    page.ask("What is Idlebloom?")
    page.wait(lambda: page.states() == ["failed"])
    assert "restricts what it may be used for" in page.find(".error").text
    page.looks_right(DARK_PHONE, LIGHT)
    assert not page.swarm.licences.accepted(RAIL)
    assert f"licence {RAIL}" in page.find("footer").text
    page.find("[data-opens=privacy]").click()
    assert page.focused("textContent") == "I understand and accept the licence"
    ActionChains(page.chrome).send_keys(Keys.ENTER).perform()
    page.wait(lambda: page.swarm.licences.accepted(RAIL))
    page.shorten(6)
    page.find(".error button").click()
    page.wait(lambda: page.states() == ["done"])
    page.chrome.execute_script("localStorage.clear(); localStorage.setItem('idlebloom.privacy', 'route')")
    page.chrome.get(f"{page.home}?again")
    page.wait(lambda: page.all("#questions button"))
    assert not page.find("#privacy").is_displayed()


def test_where_the_memory_starts_is_marked(page: TroubledPage) -> None:
    """Past the model's length whole oldest turns are forgotten, above a line that says so, also after a
    reload; what alone is too long is refused in words."""
    page.fresh(*DARK_PHONE)
    page.shorten(12)
    for turn in range(1, 6):
        page.ask(f"What is a flower number {turn}?")
        page.done(turn)
        if page.all("#memory"):
            break
    started = page.heard("started")
    assert [one["memory_start"] for one in started[:-1]] == [None] * (len(started) - 1)
    order = "return [...document.querySelectorAll('#log > *')].map((one) => one.id || one.className)"
    assert page.chrome.execute_script(order)[1] == "memory"
    page.looks_right(LIGHT, DARK_PHONE)
    page.chrome.refresh()
    page.done(turn)
    assert page.chrome.execute_script(order)[1] == "memory"
    page.ask("flowers " * 100)
    page.wait(lambda: page.states()[turn:] == ["failed"])
    assert "tokens" in page.find(".error").text


def test_an_answer_waits_for_lost_blocks(page: TroubledPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the only donor of a part is lost, the answer says which blocks it waits for; page and map show the
    hole, and four ways to a whole model. When a donor comes it goes on as if nothing had been."""
    monkeypatch.setattr(answers, "Ask", partial(Ask, patience=120.0))
    page.fresh(*LIGHT)
    page.shorten(40)
    page.ask("Tell me a story")
    grown(page, 10)
    page.swarm.lose()
    for reload in (page.chrome.refresh, None):
        page.wait(lambda: page.all(".moving"))
        assert page.find(".moving").text.startswith(f"{HOLES}: the answer waits")
        if reload is not None:
            reload()
    page.wait(lambda: page.find("#swarm").text == HOLES)
    assert f"{HOLES}." in page.find("#ways").text
    assert all(page.find(f"#way-{name}").is_displayed() for name in ("try", "just", "join", "invite"))
    page.looks_right(DARK_PHONE, LIGHT)
    chat = page.chrome.current_url
    page.chrome.get(f"{page.home}swarm")
    page.wait(lambda: len(page.all("#map .layer.hole")) == 4)
    assert f"{HOLES}." in page.find("#summary").text
    page.looks_right(DARK_PHONE, LIGHT)
    page.swarm.heal()
    page.chrome.get(chat)
    page.done(1)
    assert "moved to another donor" in page.find(".summary").text
    assert not page.find("#ways").is_displayed()
    (kept,) = page.answers()
    page.find(".under [data-icon=again]").click()
    page.wait(lambda: page.each(".under .versions") == ["2/2"])
    page.done(1)
    assert page.answers() == [kept]


def test_an_answer_for_which_nobody_comes_ends_in_words(
    page: TroubledPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said is kept, and the error names the blocks."""
    monkeypatch.setattr(answers, "Ask", partial(Ask, patience=1.0))
    page.fresh(*DARK_PHONE)
    page.ask("Tell me a story")
    grown(page, 10)
    page.swarm.lose()
    page.wait(lambda: page.states() == ["failed"])
    assert page.find(".error .title").text.startswith("Blocks 3 to 6 have no donor")
    assert len(page.answers()[0]) >= 10
    page.looks_right(LIGHT, DARK_PHONE)
    page.chrome.refresh()
    page.wait(lambda: page.states() == ["failed"])
    assert len(page.answers()[0]) >= 10
    page.chrome.get(f"{page.home}?empty")
    page.wait(lambda: page.all("#big-bloom .hole"))
    assert page.find("#bloom-words").text == f"The model is not whole: b{HOLES[1:]}."
