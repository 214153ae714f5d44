"""What the page shows of the swarm and of this PC, in a real browser over a make-believe node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from core.terms import Because, ModelRef, Reason, Route, Span, Stage, State, SwarmView
from tests.chat_page import Page
from tests.webchat.offers import FakeDemo, FakeWays
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import DEMO, PEERS, WHOLE, FakeReader
from webchat.serve import Server

pytestmark = pytest.mark.chromium
RAIL = "bigscience-bloom-rail-1.0"
HOLES = replace(WHOLE, swarm=SwarmView("idlebloom-demo", False, (Span(4, 7),), 2))


@pytest.fixture
def demo() -> FakeDemo:
    return FakeDemo()


@pytest.fixture
def ways() -> FakeWays:
    return FakeWays()


@pytest.fixture
def app(reader: FakeReader, door: Door, demo: FakeDemo, ways: FakeWays) -> Flask:
    return create_app(reader, door, demo=demo, ways=ways)


def done(page: Page) -> None:
    page.wait(lambda: page.states()[-1:] == ["done"])


def test_what_to_expect_is_said_before_sending(page: Page) -> None:
    """Whole, how many donors, how fast; nothing is made up before donors have measured."""
    page.wait(lambda: "whole, 3 donors, about " in page.find("#swarm").text)
    assert page.find("#swarm").text.endswith("tokens/s")
    assert not page.find("#ways").is_displayed()
    page.reader.measures = False
    page.reader.set_status(replace(WHOLE, sessions=1))
    page.wait(lambda: page.find("#swarm").text.endswith("whole, 3 donors, speed not known yet"))
    page.reader.measures = True
    page.wait(lambda: page.find("#swarm").text.endswith("tokens/s"))  # it asks again by itself


def test_one_donor_alone_is_not_spoken_of_as_many(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the empty page, and on the swarm's."""
    everything = Route((Stage(PEERS[0], Span(0, 10)),), 0.02)
    monkeypatch.setattr(page.reader, "route", lambda: everything)
    page.reader.set_status(replace(WHOLE, swarm=SwarmView("idlebloom-demo", True, (), 1)))
    page.wait(lambda: page.find("#bloom-words").text == "One donor holds all of this model.")
    page.find("#swarm").click()
    page.wait(lambda: "one donor holds all of it. It promises about " in page.find("#summary").text)


def test_a_move_is_told_and_kept(page: Page) -> None:
    """While the answer goes on, and with its numbers."""
    page.reader.moves_after, page.reader.pause = 5, 0.05
    page.ask("one")
    page.wait(lambda: page.all(".moving"))
    assert page.find(".moving").text == "It moved to another donor, 0.40 s, and goes on."
    done(page)
    assert "moved to another donor, 0.40 s" in page.find(".summary").text
    page.chrome.refresh()
    page.wait(lambda: page.all(".summary"))
    assert "moved to another donor, 0.40 s" in page.find(".summary").text


def test_unplugging_asks_a_question_and_shows_it_going_on(page: Page, demo: FakeDemo) -> None:
    """A spare first; then a donor of the route loses its plug in the middle of the answer."""
    page.reader.pause = 0.05
    page.find("#unplug").click()
    page.wait(lambda: page.all(".moving"))
    assert page.find(".moving").text == f"{PEERS[1][-8:]} was unplugged."
    done(page)
    assert (demo.spares, demo.unplugged) == (1, [PEERS[1]])
    page.find(".summary").click()
    assert "was unplugged in the middle of this answer" in page.find(".route").text


def test_a_model_with_holes_has_ways_that_lead_somewhere(page: Page, ways: FakeWays, server: Server) -> None:
    """Try it here, just this PC, join a link, make a swarm."""
    page.reader.set_status(HOLES)
    page.wait(lambda: page.find("#ways").is_displayed())
    assert "Blocks 4 to 6 have no donor." in page.find("#ways").text
    page.find("#way-invite").click()
    page.find("#way-yes").click()
    page.wait(lambda: page.find("#way-link").get_property("value") == "idlebloom:link")
    assert page.find("#way-result").text == "Its meeting points: reachable."
    page.find("#way-close").click()
    page.find("#way-join").click()
    page.find("#way-link").send_keys("bad", Keys.ENTER)
    page.wait(lambda: "no invite link" in page.find("#way-result").text)
    page.find("#way-link").clear()
    page.find("#way-link").send_keys("good", Keys.ENTER)
    page.wait(lambda: "started again" in page.find("#way-result").text)
    ActionChains(page.chrome).send_keys(Keys.ESCAPE).perform()
    page.find("#way-just").click()
    page.find("#way-yes").click()
    page.wait(lambda: "begins at once" in page.find("#way-result").text)
    page.find("#way-close").click()
    page.find("#way-try").click()
    page.find("#way-yes").click()
    page.wait(lambda: page.chrome.current_url == f"{server.url}/swarm")
    assert ways.went == ["invite", "good", "just", "try"]
    page.chrome.get_log("browser")  # type: ignore[no-untyped-call]  # the refused link is in the console


def test_the_swarms_other_models_are_shown(page: Page, server: Server, screenshots: Path) -> None:
    """Each with its map, its holes and its donors in a table."""
    other = ModelRef("bigscience/bloomz-560m", "a2845d7e13dd12efae154a9f1c63fcc2e0cc4b05", 26)
    records = [replace(one, model=other, span=Span(0, 12)) for one in page.reader.swarm()[:1]]
    page.reader.elsewhere = {other: tuple(records)}
    page.chrome.get(f"{server.url}/swarm")
    page.wait(lambda: page.all(".other"))
    (shown,) = page.all(".other")
    assert "It has 24 blocks. Blocks 12 to 24, words out have no donor." in shown.text
    assert len(page.all(".other .layer.hole")) == 14
    page.find(".other summary").click()
    assert page.find(".other tbody tr").text.startswith("eARoseQ7 words in, blocks 1 to 11 online")
    page.chrome.save_screenshot(str(screenshots / "swarm-others.png"))


def test_this_pcs_donor_is_shown_and_obeys(page: Page, screenshots: Path) -> None:
    """What it does and why; pause for a while, and resume, by keyboard."""
    giving = replace(WHOLE, state=State.GIVING, span=Span(4, 7), sessions=2)
    page.reader.set_status(giving)
    page.wait(lambda: page.find("#donor-button").get_attribute("data-donor") == "giving")
    page.find("#donor-button").send_keys(Keys.ENTER)
    assert page.find("#donor-state").text == "Giving"
    assert "Serves: blocks 4 to 6" in page.find("#donor-facts").text
    assert "2 conversations open" in page.find("#donor-facts").text
    page.find("[data-action=pause][data-for='1h']").send_keys(Keys.ENTER)
    page.wait(lambda: page.find("#donor-state").text == "Paused")
    page.chrome.save_screenshot(str(screenshots / "donor.png"))
    page.find("[data-action=resume]").send_keys(Keys.ENTER)
    page.wait(lambda: page.find("#donor-state").text != "Paused")
    assert page.reader.orders == [("pause", "1h"), ("resume", None)]


def test_a_donor_that_waits_says_why(page: Page) -> None:
    """In the words of the tray."""
    page.reader.set_status(replace(WHOLE, state=State.WAITING, reason=Because(Reason.ON_BATTERY)))
    page.find("#donor-button").click()
    page.wait(lambda: page.find("#donor-why").text == "Waiting for mains power.")
    assert page.find("#donor-give").is_displayed() and not page.find("#donor-finish").is_displayed()


def test_names_of_peers_and_chats_are_text(page: Page, server: Server) -> None:
    """Whatever a donor or a person calls itself, no page runs it."""
    evil = "<img src=x onerror=document.title='owned'>"
    page.reader.model = replace(DEMO, model_id=evil, licence=evil, note=evil, questions=(evil,) * 4)
    page.chrome.get(f"{server.url}/?evil")
    page.wait(lambda: len(page.all("#questions button")) == 4)
    page.all("#questions button")[0].click()
    done(page)
    page.wait(lambda: page.chats() == [evil])
    page.find(".summary").click()
    stranger = ModelRef(evil, evil, 10)
    page.reader.elsewhere = {stranger: tuple(replace(one, model=stranger) for one in page.reader.swarm())}
    page.chrome.get(f"{server.url}/swarm")
    page.wait(lambda: page.all("#rows tr") and page.all(".other"))
    assert page.find(".other h3").text == evil
    assert page.chrome.title == "The swarm · Idlebloom"
    assert not page.all("main img")


def test_the_own_donor_stands_out_on_the_map(page: Page, server: Server) -> None:
    """In the picture and in the table."""
    page.reader.mine = (PEERS[1],)
    page.chrome.get(f"{server.url}/swarm")
    page.wait(lambda: page.all("#rows tr"))
    assert [one.text for one in page.all("#map .mine")] == ["this PC"]
    assert page.find("#rows tr.mine th").text.endswith("this PC")
    assert "about" in page.find("#summary").text
