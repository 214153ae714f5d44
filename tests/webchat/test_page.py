"""The chat page in a real browser, over a make-believe node."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from core.terms import Span, SwarmView
from tests.browser import complaints, view
from tests.chat_page import Page
from webchat.fake import ANSWER, QUESTIONS, WHOLE
from webchat.serve import Server

pytestmark = pytest.mark.chromium
SCREENS = [(1280, 860, "light"), (1280, 860, "dark"), (390, 844, "light"), (390, 844, "dark")]


def test_an_answer_grows_and_ends_with_its_route_and_numbers(page: Page) -> None:
    """At least five states of the growing text are seen; then speed, tokens and the donors."""
    page.reader.pause = 0.05
    page.ask("What is a flower?")
    grown: list[str] = []
    while page.states()[-1:] != ["done"]:
        text = page.answers()[0]
        if text and (not grown or text != grown[-1]):
            grown.append(text)
    assert len(grown) >= 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(grown))
    assert page.answers() == [ANSWER]
    assert re.search(
        r"3 donors · [\d.]+ tokens/s · first token [\d.]+ s · 36 tokens", page.find(".summary").text
    )
    assert len(page.all(".strip span")) == 3
    page.find(".summary").click()
    first = page.find(".route li").text.split("\n")
    assert first == ["eARoseQ7", "words in, blocks 1 to 3", "4.0 ms to compute · 6.0 ms to the next · direct"]
    assert "relayed" in page.all(".route li")[1].text and "back to the first" in page.all(".route li")[2].text
    assert page.find(".route .predicted").text.startswith("These donors promised 50.0 tokens/s")


def test_the_next_question_goes_on_with_the_conversation(page: Page) -> None:
    """The same key, and all that was said."""
    page.ask("one")
    page.wait(lambda: page.states() == ["done"])
    page.ask("two")
    page.wait(lambda: page.states() == ["done", "done"])
    first, second = page.reader.asks
    assert first.conversation == second.conversation is not None
    assert [(one.role, one.text) for one in second.prompt] == [  # type: ignore[union-attr]
        ("user", "one"),
        ("assistant", ANSWER),
        ("user", "two"),
    ]


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_keeps_what_was_said(page: Page, how: str) -> None:
    """The answer ends where it was, and the next question is answered."""
    page.reader.pause = 0.1
    page.ask("go")
    page.wait(lambda: page.answers() and page.answers()[0])
    if how == "button":
        page.find("#stop").click()
    else:
        page.find("#question").send_keys(Keys.ESCAPE)
    page.wait(lambda: page.states() == ["stopped"])
    said = page.answers()[0]
    assert ANSWER.startswith(said) and 0 < len(said) < len(ANSWER)
    assert page.focus() == "question"
    page.reader.pause = 0
    page.ask("again")
    page.wait(lambda: page.states() == ["stopped", "done"])


def test_questions_are_offered_as_buttons(page: Page) -> None:
    """Each of the model's four questions asks itself."""
    assert [button.text for button in page.all("#questions button")] == list(QUESTIONS)
    page.all("#questions button")[1].click()
    page.wait(lambda: page.states() == ["done"])
    assert page.find(".you .text").text == QUESTIONS[1]
    assert not page.find("#welcome").is_displayed()


def test_a_new_chat_starts_over_and_keeps_the_old_one(page: Page) -> None:
    """The old conversation is in the list, and opens again as it was."""
    page.ask("one")
    page.wait(lambda: page.states() == ["done"])
    page.find("#new").click()
    page.wait(lambda: page.find("#welcome").is_displayed())
    assert page.states() == []
    page.ask("two")
    page.wait(lambda: page.states() == ["done"])
    assert page.reader.asks[0].conversation != page.reader.asks[1].conversation
    page.wait(lambda: page.chats() == ["two", "one"])
    page.all("#chats a")[1].click()
    page.wait(lambda: page.find(".you .text").text == "one")
    assert page.answers() == [ANSWER] and page.states() == ["done"]


def test_an_error_says_what_to_do_and_can_be_tried_again(page: Page) -> None:
    """Words, advice and a button; what was typed is still there."""
    page.reader.fails_after = 4
    page.ask("my long question")
    page.wait(lambda: page.states() == ["failed"])
    assert "was lost" in page.find(".error").text and "another route" in page.find(".error").text
    assert page.answers() == ["A flower is the"]
    assert page.find(".you .text").text == "my long question"
    page.reader.fails_after = None
    page.find(".error button").click()
    page.wait(lambda: page.states() == ["done"])
    assert page.find(".you .text").text == "my long question"
    assert page.reader.asks[1].prompt == page.reader.asks[0].prompt


def test_a_failed_turn_is_not_sent_again(page: Page) -> None:
    """The model sees whole turns only."""
    page.ask("/nodonor")
    page.wait(lambda: page.states() == ["failed"])
    assert page.find(".error .title").text == "Blocks 4 to 6 have no donor."
    page.ask("hello")
    page.wait(lambda: page.states() == ["failed", "done"])
    assert [one.text for one in page.reader.asks[1].prompt] == ["hello"]  # type: ignore[union-attr]


def test_a_lost_program_is_said_and_found_again(page: Page, server: Server, app: object) -> None:
    """When the program ends the page says so, keeps what is typed, and goes on when it is back."""
    page.find("#question").send_keys("half a thought")
    server.stop()
    page.wait(lambda: page.find("#swarm").get_attribute("data-state") == "lost")
    again = Server(app, port=server.port)  # type: ignore[arg-type]
    again.start()
    page.wait(lambda: page.find("#swarm").get_attribute("data-state") == "whole", 15)
    page.find("#question").send_keys(", whole", Keys.ENTER)
    page.wait(lambda: page.states() == ["done"])
    assert page.find(".you .text").text == "half a thought, whole"
    complaints(page.chrome)  # the failed dials are in the console, as they should
    page.chrome.get("about:blank")
    again.stop()


def test_a_draft_survives_a_reload(page: Page) -> None:
    """The typed text is never lost."""
    page.find("#question").send_keys("not yet sent")
    page.chrome.refresh()
    page.wait(lambda: page.all("#questions button"))
    assert page.find("#question").get_property("value") == "not yet sent"


def test_markup_in_an_answer_is_text(page: Page) -> None:
    """A script that a model or a donor sends is shown, not run."""
    page.reader.answer = (
        "<script>document.title='owned'</script> <img src=x onerror=\"document.title='owned'\">"
    )
    page.ask("<b>hi</b>")
    page.wait(lambda: page.states() == ["done"])
    assert page.answers() == [page.reader.answer]
    assert page.find(".you .text").text == "<b>hi</b>"
    assert page.chrome.title == "Idlebloom"
    assert not page.all("#log img, #log script, #log b")


def test_a_space_before_the_answer_is_kept_but_not_shown(page: Page) -> None:
    """The next turn sends exactly what the model said."""
    page.reader.answer = " A bud."
    page.ask("one")
    page.wait(lambda: page.states() == ["done"])
    assert page.answers() == ["A bud."]
    page.ask("two")
    page.wait(lambda: page.states() == ["done", "done"])
    assert page.reader.asks[1].prompt[1].text == " A bud."  # type: ignore[union-attr]


def test_everything_works_by_keyboard(page: Page) -> None:
    """Tab reaches it, Enter sends, Shift and Enter start a line, Escape closes what is open."""
    keys = ActionChains(page.chrome)
    assert page.focus() == "question"
    keys.send_keys("one").key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).send_keys(
        "two"
    ).perform()
    assert page.find("#question").get_property("value") == "one\ntwo"
    ActionChains(page.chrome).send_keys(Keys.TAB, Keys.ENTER).perform()
    page.wait(lambda: page.find("#sampling").is_displayed())
    presets = [Keys.TAB] * 3
    ActionChains(page.chrome).send_keys(*presets, Keys.TAB, *[Keys.ARROW_RIGHT] * 2, Keys.ESCAPE).perform()
    assert page.find("#sampling-words").text == "Temperature 0.2"
    assert not page.find("#sampling").is_displayed() and page.focus() == "sampling-button"
    ActionChains(page.chrome).send_keys(Keys.TAB, Keys.ENTER).perform()
    page.wait(lambda: page.states() == ["done"])
    assert page.focus() == "question"
    sent = page.reader.asks[0]
    assert sent.prompt[0].text == "one\ntwo" and sent.sampling.temperature == 0.2  # type: ignore[union-attr]


def test_focus_stays_while_an_answer_streams(page: Page) -> None:
    """Typing the next question is never interrupted."""
    page.reader.pause = 0.03
    page.ask("one")
    page.find("#question").send_keys("next")
    while page.states() != ["done"]:
        assert page.focus() == "question"
    assert page.find("#question").get_property("value") == "next"


def test_the_log_hears_whole_sentences_under_headings(page: Page) -> None:
    """While text streams, the accessible part of the answer ends with a sentence."""
    page.reader.pause = 0.04
    page.ask("one")
    heard: set[str] = set()
    script = "return document.querySelector('.bloomed .text > span')?.textContent ?? ''"
    while page.states() != ["done"]:
        heard.add(page.chrome.execute_script(script))
    assert all(not text or re.search(r"[.!?]\s*$", text) for text in heard)
    assert len(heard) >= 3
    assert page.find("#log").get_attribute("role") == "log"
    headings = [one.get_property("textContent") for one in page.all("#log h2")]
    assert headings == ["You said", "Idlebloom said"]


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_it_fits_its_window(page: Page, screenshots: Path, width: int, height: int, scheme: str) -> None:
    """No sideways scrolling at any width, long words included; light and dark."""
    view(page.chrome, width, height, scheme)
    page.chrome.refresh()
    page.wait(lambda: page.all("#questions button") and page.all("#big-bloom svg"))
    name = f"{width}-{scheme}"
    page.chrome.save_screenshot(str(screenshots / f"chat-empty-{name}.png"))
    page.reader.answer = f"{ANSWER} {'long' * 60} done."
    page.ask("What is " + "a" * 200 + "?")
    page.wait(lambda: page.states() == ["done"])
    page.ask("/lost")
    page.wait(lambda: page.states() == ["done", "failed"])
    page.find("#sampling-button").click()
    page.chrome.save_screenshot(str(screenshots / f"chat-{name}.png"))
    script = (
        "return document.documentElement.scrollWidth <= innerWidth && arguments[0].scrollWidth <= innerWidth"
    )
    assert page.chrome.execute_script(script, page.find("#scroller"))


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_the_swarm_page_draws_the_map(
    page: Page, server: Server, width: int, height: int, scheme: str
) -> None:
    """A line and a row a donor, holes marked, no sideways scrolling."""
    page.reader.set_status(replace(WHOLE, swarm=SwarmView("idlebloom-demo", False, (Span(4, 7),), 2)))
    view(page.chrome, width, height, scheme)
    page.chrome.get(f"{server.url}/swarm")
    page.wait(lambda: len(page.all("#rows tr")) == 2)
    assert len(page.all("#map .layer.hole")) == 3
    assert "Blocks 4 to 6 have no donor." in page.find("#summary").text
    assert page.chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")
