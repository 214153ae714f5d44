"""The page for those who do not see it, or use no mouse: axe-core, the accessibility tree, zoom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from core.terms import ModelRef
from tests.axe import violations
from tests.browser import view
from tests.chat_page import Page
from tests.webchat.offers import FakeDemo, FakeWays
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import ANSWER, FakeReader
from webchat.serve import Server

pytestmark = pytest.mark.chromium
SIZES = [(1280, 860, "light"), (390, 844, "dark")]
"""What axe-core finds hangs on the width for the structure, and on the scheme for the colours."""
LONG = f"""{ANSWER}

| Flower | Opens |
|--------|-------|
| Daisy  | at dawn |

```python
print("bloom")  # a word
```

1. One **bold** step
2. [A link](https://example.org/)

> A quote.
"""


@pytest.fixture
def app(reader: FakeReader, door: Door) -> Flask:
    return create_app(reader, door, demo=FakeDemo(), ways=FakeWays())


def streaming(page: Page) -> None:
    page.reader.pause = 1.0
    page.find("#question").clear()
    page.ask("What is a flower?")
    page.wait(lambda: page.states()[-1:] == ["streaming"] and page.answers()[-1])


def ended(page: Page) -> None:
    page.reader.pause = 0
    page.find("#question").send_keys(Keys.ESCAPE)
    page.wait(lambda: page.states()[-1] in ("stopped", "done"))


def long_chat(page: Page) -> None:
    page.reader.answer = LONG
    for number in range(3):
        before = len(page.states())
        page.ask(f"Question {number}?")
        page.wait(lambda: len(page.states()) > before)  # noqa: B023 called at once
        page.wait(lambda: page.states()[-1] == "done")


def click(css: str, shown: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.chrome.execute_script("document.querySelector(arguments[0]).click()", css)
        page.wait(lambda: page.find(shown).is_displayed())

    return act


def escape(page: Page) -> None:
    ActionChains(page.chrome).send_keys(Keys.ESCAPE).perform()


def menu(page: Page) -> None:
    if page.find("#chats-button").is_displayed():
        page.find("#chats-button").click()
    click(".more", "#chat-menu")(page)


def leave_menu(page: Page) -> None:
    escape(page)
    escape(page)
    page.wait(lambda: not page.find("#chat-menu").is_displayed())


STATES: list[tuple[str, Callable[[Page], None], Callable[[Page], None] | None]] = [
    ("empty", lambda _page: None, None),
    ("streaming", streaming, ended),
    ("long", long_chat, None),
    ("route", click(".turn:last-child .summary", ".turn:last-child .route"), None),
    ("way", click("#way-join", "#way"), escape),
    ("keys", click("#keys-button", "#keys-dialog"), escape),
    ("programs", click("#programs-button", "#programs"), escape),
    ("sampling", click("#sampling-button", "#sampling"), escape),
    ("donor", click("#donor-button", "#donor"), escape),
    ("menu", menu, leave_menu),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_axe_finds_nothing_wrong(
    page: Page, server: Server, screenshots: Path, size: tuple[int, int, str]
) -> None:
    """On the empty page, a streaming answer, an error, a long chat, the route, dialogs, and the swarm."""
    width, height, scheme = size
    view(page.chrome, width, height, scheme)
    found: dict[str, list[str]] = {}
    for name, enter, leave in STATES:
        enter(page)
        found[name] = violations(page.chrome)
        page.chrome.save_screenshot(str(screenshots / f"axe-{name}-{width}-{scheme}.png"))
        if leave is not None:
            leave(page)
    other = ModelRef("another/model", "main", 26)
    page.reader.elsewhere = {other: tuple(replace(one, model=other) for one in page.reader.swarm())}
    page.chrome.get(f"{server.url}/swarm")
    page.wait(lambda: page.all("#rows tr") and page.all(".other"))
    page.find(".other summary").click()
    found["swarm"] = violations(page.chrome)
    wrong = {f"{name}: {one}" for name, ones in found.items() for one in ones}
    assert not wrong, "\n\n".join(sorted(wrong))


def tree(page: Page) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = page.chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return nodes


def heard(page: Page) -> tuple[list[str], str]:
    """What the accessibility tree has in the log: its headings, and the text of the last answer."""
    nodes = {node["nodeId"]: node for node in tree(page)}
    log = next((node for node in nodes.values() if node.get("role", {}).get("value") == "log"), None)
    if log is None:
        return [], ""
    headings: list[str] = []
    said: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if role == "heading":
            headings.append(name)
            said.clear()
        elif role == "StaticText" and not node.get("ignored") and headings:
            said.append(name)
            return
        elif role == "button":
            return
        for child in node.get("childIds", []):
            if child in nodes and role != "heading":
                walk(nodes[child])

    walk(log)
    return headings, " ".join("".join(said).split())


def test_the_accessibility_tree_has_whole_sentences_under_headings(page: Page) -> None:
    """While an answer streams a screen reader finds no half sentence, and the focus never jumps."""
    page.chrome.execute_cdp_cmd("Accessibility.enable", {})
    page.reader.pause = 0.06
    page.ask("one")
    states = set()
    while page.states() != ["done"]:
        headings, said = heard(page)
        if headings == ["You said", "Idlebloom said"]:
            states.add(said)
        assert page.focus() == "question"
    assert len(states) >= 2
    assert all(said == "" or said[-1] in ".:!?" for said in states), states
    assert all(ANSWER.startswith(said) for said in states), states


def test_it_can_be_used_at_twice_the_size(page: Page) -> None:
    """At 200 % zoom nothing is cut off sideways, and an answer can be asked for and read."""
    view(page.chrome, 640, 430)
    page.ask("What is a flower?")
    page.wait(lambda: page.states() == ["done"])
    assert page.chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    for css in ("#question", "#sampling-button", "#send", "#new", "#chats-button"):
        box = page.find(css).rect
        assert box["x"] >= 0 and box["x"] + box["width"] <= 640 and box["y"] + box["height"] <= 430, css
    assert page.find(".bloomed .text").rect["width"] > 300


def test_text_from_right_to_left_reads_so(page: Page) -> None:
    """Question, answer and title follow their own direction; the page's own words stay as they are."""
    page.reader.answer = "الزهرة جزء من النبات."
    page.ask("ما هي الزهرة؟")
    page.wait(lambda: page.states() == ["done"])
    page.wait(page.chats)
    script = "return getComputedStyle(document.querySelector(arguments[0])).direction"
    for css in (".you .text", ".bloomed .text", "#chats a"):
        assert page.chrome.execute_script(script, css) == "rtl", css
    assert page.chrome.execute_script(script, ".under") == "ltr"


def test_nothing_moves_for_those_who_want_it_so(page: Page) -> None:
    """With reduced motion no animation runs, also while an answer streams."""
    streaming(page)
    assert page.chrome.execute_script("return document.getAnimations().length") == 0
    ended(page)
