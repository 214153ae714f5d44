"""The chat page in a real browser over three real donors, which rest between steps so that one can watch.

``IDLEBLOOM_SCREENSHOTS=FOLDER`` makes it keep pictures of the pages there: those of docs/images,
at the donors' own speed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from core.model.text import Pieces, Text
from core.paths import bundled_model
from tests.browser import complaints, open_browser, view
from tests.end_to_end.programs import Program, folder

pytestmark = pytest.mark.chromium

REST_SECONDS = 0.05
"""Of each of the three donors: a token takes about 0.15 s."""
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
    program: Program

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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with folder() as place, open_browser(tmp_path_factory.mktemp("chromium")) as chrome:
        rest = 0.0 if "IDLEBLOOM_SCREENSHOTS" in os.environ else REST_SECONDS
        options = ("--json", "--no-browser", "--port", "0", "--rest", str(rest))
        program = place.start("demo", *options, environment={"IDLEBLOOM_LOG": "debug"})
        url = program.ready()["url"]
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        view(chrome, 1280, 800)
        chrome.get(f"{url}/")
        opened = Page(chrome, program)
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


def test_the_answer_is_shown_while_it_is_computed(page: Page) -> None:
    """At least five states of the text, each on the page before the tail drew the token after next."""
    page.all("#questions button")[0].click()
    page.wait(lambda: page.states() == ["done"])
    (ended,) = page.heard("ended")
    steps = steps_of(drawn(page.program))
    assert steps[0][0] == ended["prompt_tokens"]
    pieces, text, shown = Pieces(Text(bundled_model())), "", {}
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


def test_an_unplugged_donor_ends_no_answer(page: Page) -> None:
    """A spare starts, then one donor loses its plug in the middle of an answer, which goes on over the
    spare; the demo goes on too."""
    before = len(page.program.workers())
    page.find("#unplug").click()
    page.wait(lambda: len(page.states()) == 4 and page.states()[3] in ("done", "failed", "stopped"))
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
