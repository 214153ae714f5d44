"""The chat page in a real browser, over real donors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import view

WATCH = """
window.heard = [];
window.seen = [];
const Original = WebSocket;
window.WebSocket = class extends Original {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => heard.push(data));
  }
};
new MutationObserver(() => {
  const texts = document.querySelectorAll(".bloomed .text");
  const text = texts.length ? texts[texts.length - 1].textContent : "";
  if (text && text !== seen.at(-1)?.text) {
    seen.push({ text, turns: texts.length, time: (performance.timeOrigin + performance.now()) / 1000 });
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@dataclass
class Page:
    chrome: Chrome
    home: str

    def find(self, css: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, css)

    def wait(self, until: Callable[[], object], seconds: float = 60) -> None:
        WebDriverWait(self.chrome, seconds, poll_frequency=0.05).until(lambda _: until())

    def states(self) -> list[str]:
        script = "return [...document.querySelectorAll('.turn')].map((turn) => turn.dataset.state)"
        found: list[str] = self.chrome.execute_script(script)
        return found

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """What the node told the page, of one kind."""
        messages = map(json.loads, self.chrome.execute_script("return heard"))
        return [message for message in messages if message["type"] == kind]

    def seen(self, turn: int) -> list[tuple[float, str]]:
        """The states of one answer's text, and when the page showed them."""
        seen = self.chrome.execute_script("return seen")
        return [(one["time"], one["text"]) for one in seen if one["turns"] == turn]

    def each(self, css: str, what: str = "textContent") -> list[str]:
        """Of all at one moment."""
        script = f"return [...document.querySelectorAll(arguments[0])].map((one) => one.{what})"
        found: list[str] = self.chrome.execute_script(script, css)
        return found

    def answers(self) -> list[str]:
        return self.each(".bloomed .text")

    def done(self, count: int) -> None:
        self.wait(lambda: self.states() == ["done"] * count)

    def ask(self, text: str) -> None:
        self.find("#question").send_keys(text, Keys.ENTER)

    def shorten(self, tokens: int) -> None:
        """Say in the panel how long an answer may be; all that follows in this browser heeds it."""
        self.find("#sampling-button").click()
        self.find("#max_tokens").clear()
        self.find("#max_tokens").send_keys(str(tokens))
        ActionChains(self.chrome).send_keys(Keys.ESCAPE).perform()

    def fresh(self, width: int, height: int, scheme: str) -> None:
        """A new chat in a window of that size."""
        view(self.chrome, width, height, scheme)
        self.chrome.get("about:blank")
        self.chrome.get(self.home)
        self.wait(
            lambda: (
                self.all("#questions button") and self.find("#swarm").get_attribute("data-state") == "whole"
            )
        )

    def fits(self) -> bool:
        """Nothing makes the page scroll sideways."""
        script = "return document.documentElement.scrollWidth <= innerWidth"
        return bool(self.chrome.execute_script(script))

    def focused(self, what: str) -> str:
        """Of the element that has the keyboard."""
        found: str = self.chrome.execute_script(f"return document.activeElement.{what} ?? ''")
        return found
