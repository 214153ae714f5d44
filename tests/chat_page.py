"""The chat page over a make-believe node, as a person meets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from webchat.fake import FakeReader


@dataclass
class Page:
    chrome: Chrome
    reader: FakeReader

    def find(self, css: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, css)

    def wait(self, until: Callable[[], object], seconds: float = 8) -> None:
        WebDriverWait(self.chrome, seconds, poll_frequency=0.02).until(lambda _: until())

    def answers(self) -> list[str]:
        return self.each(".bloomed .text", "textContent")

    def states(self) -> list[str]:
        return self.each(".turn", "dataset.state")

    def each(self, css: str, what: str) -> list[str]:
        """Of all at one moment: elements may be drawn anew while one asks for them one by one."""
        script = f"return [...document.querySelectorAll(arguments[0])].map((one) => one.{what})"
        found: list[str] = self.chrome.execute_script(script, css)
        return found

    def chats(self) -> list[str]:
        return self.each("#chats a", "textContent")

    def ask(self, text: str) -> None:
        self.find("#question").send_keys(text, Keys.ENTER)

    def focus(self) -> str | None:
        return self.chrome.switch_to.active_element.get_attribute("id")
