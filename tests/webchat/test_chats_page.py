"""Kept chats, branches and markup in a real browser, over a make-believe node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from core.routing.ask import Message
from tests.browser import view
from tests.chat_page import Page
from webchat.fake import ANSWER
from webchat.serve import Server

pytestmark = pytest.mark.chromium
SCREENS = [(1280, 860, "light"), (1280, 860, "dark"), (390, 844, "light"), (390, 844, "dark")]
MARKUP = """Here is a *short* table, and a bit of code:

| Flower | Opens | Seen by |
|--------|-------|---------|
| Daisy  | at dawn | bees |
| Moonflower | after sunset | moths |

```python
def petals(count: int) -> str:  # one a donor
    return "🌸" * count + " & <b>more</b>"
```

## A list

1. One donor holds a **few** blocks.
2. A route holds them all: [read on](https://example.org/).

> That is all.
"""


def done(page: Page, count: int = 1) -> None:
    page.wait(lambda: page.states() == ["done"] * count)


def asked(page: Page) -> list[list[str]]:
    return [[one.text for one in ask.prompt] for ask in page.reader.asks]  # type: ignore[union-attr]


def test_answering_again_makes_a_branch(page: Page) -> None:
    """Both versions are kept, one can leaf through them, and the talk goes on from the one shown."""
    page.ask("one")
    done(page)
    page.reader.answer = "Another answer."
    page.find(".under [data-icon=again]").click()
    page.wait(lambda: page.answers() == ["Another answer."])
    done(page)
    assert page.find(".under .versions").text == "2/2"
    page.find(".under [data-icon=left]").click()
    assert page.answers() == [ANSWER] and page.find(".under .versions").text == "1/2"
    page.ask("two")
    done(page, 2)
    assert asked(page) == [["one"], ["one"], ["one", ANSWER, "two"]]
    page.chrome.refresh()
    done(page, 2)
    assert page.answers() == [ANSWER, "Another answer."]


def test_editing_a_question_makes_a_branch(page: Page) -> None:
    """The new question has the same talk before it; the old one stays beside it."""
    page.ask("one")
    done(page)
    page.ask("two")
    done(page, 2)
    page.all(".mine [data-icon=edit]")[1].click()
    ActionChains(page.chrome).send_keys(" and a half", Keys.ENTER).perform()
    page.wait(lambda: page.all(".you .text")[-1].text == "two and a half")
    done(page, 2)
    assert asked(page)[2] == ["one", ANSWER, "two and a half"]
    page.all(".mine")[1].find_element("css selector", "[data-icon=left]").click()
    assert page.all(".you .text")[-1].text == "two"
    page.all(".mine [data-icon=edit]")[0].click()
    ActionChains(page.chrome).send_keys(Keys.ESCAPE).perform()
    assert page.all(".you .text")[0].text == "one"


def test_chats_stand_below_their_day(page: Page) -> None:
    """Days as the owner's clock has them, whatever the hour; older ones by month."""
    script = """(async ([days, done]) => {
        const { dayWords } = await import("/static/js/words.js");
        const now = new Date(2026, 2, 31, 0, 5);
        done(days.map((day) => dayWords(new Date(2026, 2, 31 - day, 23, 50), now)));
    })(arguments)"""
    found = page.chrome.execute_async_script(script, [0, 1, 2, 7, 8, 30, 31, 400])
    week, month = ["Last 7 days"] * 2, ["Last 30 days"] * 2
    assert found == ["Today", "Yesterday", *week, *month, "February 2026", "February 2025"]


def test_chats_are_searched_renamed_saved_and_deleted(page: Page) -> None:
    """All from the list, by the keyboard too."""
    for question in ("About roses", "About ferns"):
        page.find("#new").click()
        page.ask(question)
        done(page)
    page.wait(lambda: page.chats() == ["About ferns", "About roses"])
    assert page.each(".day", "textContent") == ["Today"]
    ActionChains(page.chrome).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).perform()
    ActionChains(page.chrome).send_keys("ROSES").perform()
    page.wait(lambda: page.chats() == ["About roses"])
    ActionChains(page.chrome).send_keys(*[Keys.BACKSPACE] * 5).perform()
    page.wait(lambda: len(page.chats()) == 2)
    page.all("#chats .more")[1].click()
    assert page.find("#menu-json").get_attribute("download") is not None
    ActionChains(page.chrome).send_keys(Keys.ENTER).perform()
    ActionChains(page.chrome).send_keys("Rosy things", Keys.ENTER).perform()
    page.wait(lambda: page.chats() == ["About ferns", "Rosy things"])
    page.all("#chats .more")[0].click()
    page.find("#menu-delete").click()
    assert "About ferns" in page.find("#dialog").text
    page.find("#dialog-yes").click()
    page.wait(lambda: page.chats() == ["Rosy things"] and page.states() == [])
    page.find("#delete-all").click()
    page.find("#dialog-yes").click()
    page.wait(lambda: page.chats() == [])


def test_what_the_model_is_told_first(page: Page) -> None:
    """The system prompt goes before the talk, and stays with its chat."""
    page.find("#sampling-button").click()
    page.find("[data-preset=Balanced]").click()
    page.find("#system").send_keys("Be brief.")
    ActionChains(page.chrome).send_keys(Keys.ESCAPE).perform()
    page.ask("one")
    done(page)
    ask = page.reader.asks[0]
    assert ask.prompt[0] == Message("system", "Be brief.")
    assert (ask.sampling.temperature, ask.sampling.top_p) == (0.7, 0.9)
    page.find(".summary").click()
    assert f"Seed {ask.sampling.seed}" in page.find(".route .seed").text
    page.chrome.refresh()
    done(page)
    assert page.find("#system").get_property("value") == "Be brief."
    page.chrome.execute_script("localStorage.clear()")


def test_the_keys_are_listed(page: Page) -> None:
    """Ctrl and / opens the list, Escape closes it, Ctrl, Shift and O begins a chat."""
    ActionChains(page.chrome).key_down(Keys.CONTROL).send_keys("/").key_up(Keys.CONTROL).perform()
    assert "new chat" in page.find("#keys-dialog").text
    ActionChains(page.chrome).send_keys(Keys.ESCAPE).perform()
    assert not page.find("#keys-dialog").is_displayed()
    page.ask("one")
    done(page)
    new = ActionChains(page.chrome).key_down(Keys.CONTROL).key_down(Keys.SHIFT).send_keys("o")
    new.key_up(Keys.SHIFT).key_up(Keys.CONTROL).perform()
    page.wait(lambda: page.find("#welcome").is_displayed() and page.focus() == "question")


def test_markup_grows_block_by_block(page: Page) -> None:
    """Whole blocks are shown as markup while the next one still comes."""
    page.reader.answer, page.reader.pause = MARKUP, 0.03
    page.ask("Show me")
    page.wait(lambda: page.all(".block table"))
    assert page.states() == ["streaming"]
    done(page)
    page.wait(lambda: page.all(".block blockquote"))
    assert [one.text for one in page.all(".block th")] == ["Flower", "Opens", "Seen by"]
    assert page.find(".code .head span").text == "python"
    assert page.find(".code pre").text.endswith('" & <b>more</b>"')
    assert page.find(".code .k").text == "def"
    link = page.find(".block a")
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_long_chats_fit_their_window(
    page: Page, screenshots: Path, width: int, height: int, scheme: str
) -> None:
    """Tables and code scroll by themselves; nothing makes the page scroll sideways."""
    view(page.chrome, width, height, scheme)
    page.ask("A chat before this one")
    done(page)
    page.find("#new").click()
    page.reader.answer = MARKUP.replace("# one a donor", "# one a donor, " + "and another " * 20)
    page.ask("Show me a table and some code")
    done(page)
    page.wait(lambda: page.all(".block blockquote"))
    page.find(".under [data-icon=again]").click()
    page.wait(lambda: page.all(".under .versions"))
    page.wait(lambda: page.all(".block blockquote"))
    page.chrome.save_screenshot(str(screenshots / f"markup-{width}-{scheme}.png"))
    page.chrome.execute_script("document.querySelector('#scroller').scrollTop = 0")
    page.chrome.save_screenshot(str(screenshots / f"markup-top-{width}-{scheme}.png"))
    assert page.chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    if width < 1000:
        page.find("#chats-button").click()
        page.wait(lambda: page.find("#chats a").is_displayed())
    page.all("#chats .more")[0].click()
    page.chrome.save_screenshot(str(screenshots / f"chats-{width}-{scheme}.png"))
    assert page.chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_right_to_left_text_runs_so(page: Page) -> None:
    """Each message takes its direction from its own first words; code stays left to right."""
    page.reader.answer = "הפרחים נפתחים בלילה.\n\n- אחד\n- שניים\n\n```\nx = 1\n```\n"
    page.ask("מה זה פרח?")
    done(page)
    page.wait(lambda: page.all(".code pre"))
    script = "return getComputedStyle(document.querySelector(arguments[0])).direction"
    assert page.chrome.execute_script(script, ".you .text") == "rtl"
    assert page.chrome.execute_script(script, ".bloomed .text li") == "rtl"
    assert page.chrome.execute_script(script, ".bloomed pre") == "ltr"


ATTACKS = [
    "<img src=x onerror=document.title='owned'>",
    "[a](javascript:document.title='owned') [b](  JaVaScRiPt:alert(1))",
    '<a href="x" onclick="document.title=1">a</a>',
    "```<img/src=x>\ncode</code></pre><script>document.title='owned'</script>\n```",
    "![x](http://127.0.0.1:1/x.png) <svg><script>document.title='owned'</script></svg>",
]


def test_nothing_that_a_model_writes_runs(page: Page, server: Server) -> None:
    """Not as markdown, not as a title in the list, not when it is opened again."""
    page.reader.answer = "\n\n".join(ATTACKS)
    page.ask(ATTACKS[0])
    done(page)
    page.wait(lambda: page.all(".code pre"))
    page.chrome.refresh()
    done(page)
    page.wait(lambda: page.chats() == [ATTACKS[0]])
    assert page.chrome.title == "Idlebloom"
    assert not page.all("#log img, #log script, #log svg script, #log [onclick], #chats img")
    hrefs = [link.get_attribute("href") or "" for link in page.all("#log a")]
    assert all(href.startswith("http") for href in hrefs)
    exported = page.chrome.execute_script(
        "return fetch(`/api/conversations/${location.hash.slice(1)}/export`).then((answer) => answer.text())"
    )
    assert json.loads(exported)["messages"][1]["text"] == page.reader.answer


def test_what_is_typed_after_a_dialog_was_closed_by_mouse_arrives(page: Page) -> None:
    """The field has its focus back, and its caret."""
    keys = ActionChains(page.chrome)
    page.wait(lambda: page.focus() == "question")
    keys.key_down(Keys.CONTROL).send_keys("/").key_up(Keys.CONTROL).perform()
    page.wait(lambda: page.find("#keys-dialog").is_displayed())
    page.find("#keys-dialog button").click()
    page.wait(lambda: page.focus() == "question")
    ActionChains(page.chrome).send_keys("Who are you?").perform()
    page.wait(lambda: page.find("#question").get_property("value") == "Who are you?")
