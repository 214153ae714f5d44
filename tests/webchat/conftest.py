"""A make-believe node behind the real app: as a test client, on a real port, and in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient
from selenium.webdriver import Chrome

from tests.browser import complaints, open_browser, view
from tests.chat_page import Page
from webchat import serve
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader
from webchat.serve import Server

HAS_READ = "try { localStorage.setItem('idlebloom.privacy', 'route'); } catch {}"
"""Whoever tests the page knows already who can read what is typed."""
HOME = "http://127.0.0.1:7714"


@pytest.fixture(autouse=True)
def quick_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of servers are started and stopped here."""
    monkeypatch.setattr(serve, "POLL_SECONDS", 0.01)


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def door() -> Door:
    return Door(token="the token", api_key="the key")


@pytest.fixture
def app(reader: FakeReader, door: Door) -> Flask:
    return create_app(reader, door)


class Client(FlaskClient):
    """Asks under our own name and port, as a browser would."""

    def open(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        kwargs.setdefault("base_url", HOME)
        return super().open(*args, **kwargs)  # type: ignore[arg-type]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Not the owner: no cookie, no token."""
    app.test_client_class = Client
    return app.test_client()


@pytest.fixture
def owner(client: FlaskClient, door: Door) -> FlaskClient:
    """The tray or a command, with the token of ``door.json``."""
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {door.token}"
    return client


@pytest.fixture
def server(app: Flask) -> Iterator[Server]:
    running = Server(app, port=0)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def ai(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HAS_READ})
        yield browser


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")


@pytest.fixture
def page(chrome: Chrome, server: Server, reader: FakeReader) -> Iterator[Page]:
    opened = Page(chrome, reader)
    view(chrome, 1280, 860)
    chrome.get(f"{server.url}/")
    opened.wait(lambda: len(opened.all("#questions button")) == 4 and opened.all("#big-bloom svg"))
    yield opened
    assert complaints(chrome) == []
    chrome.get("about:blank")
