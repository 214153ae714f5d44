from __future__ import annotations

import json
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader

HOME = "http://127.0.0.1:7714"
PAGES = ["/", "/swarm", "/api/v1/state", "/v1/models", "/static/bloom.svg"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "host", ["evil.example:7714", "127.0.0.1:7715", "127.0.0.1", "localhost.evil.example:7714", ""]
)
def test_foreign_names_and_ports_in_host_are_refused(client: FlaskClient, path: str, host: str) -> None:
    """A foreign name that was pointed at 127.0.0.1 (DNS rebinding) gets nothing."""
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:7714", "localhost:7714", "LOCALHOST:7714", "[::1]:7714"])
def test_names_of_this_pc_are_let_in(client: FlaskClient, host: str) -> None:
    """The page answers under each name of the loopback interface."""
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1:8000", "https://127.0.0.1:7714", ""]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_foreign_origins_cannot_use_the_api(
    client: FlaskClient, reader: FakeReader, path: str, origin: str
) -> None:
    """A web page from elsewhere, a sandboxed one included, cannot make this PC answer."""
    body = {"model": "idlebloom-demo", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    answer = client.post(path, json=body, headers={"Origin": origin, "Authorization": "Bearer the key"})
    assert answer.status_code == 403
    assert answer.get_json()["error"]["code"] == "foreign_origin"
    assert not reader.asks


def test_our_own_origin_and_none_may_use_the_api(client: FlaskClient) -> None:
    """A program that is no browser, and our own page, get the list of models."""
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers={"Origin": HOME}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_get_that_another_page_embeds_is_refused(client: FlaskClient, site: str) -> None:
    """Browsers say where a request without Origin comes from; another port of this PC is elsewhere too."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert client.get("/api/v1/state", headers=headers).status_code == 403


def test_a_link_from_elsewhere_opens_the_page(client: FlaskClient) -> None:
    """A visit by a link is fine: it shows the page to its owner only."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/api/status?once=1", "/api/settings"])
def test_control_needs_the_cookie_or_the_token(client: FlaskClient, door: Door, path: str) -> None:
    """Status and settings are closed until the page has set its cookie; the token opens them too."""
    refused = client.get(path)
    assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
    assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get(path, headers={"Authorization": f"Bearer {door.token}"}).status_code == 200
    client.get("/")
    assert client.get(path).status_code == 200


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: FlaskClient, door: Door) -> None:
    """The control cookie is HttpOnly and SameSite=Strict, and does not give the token away."""
    cookie = client.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert door.token not in cookie


def test_a_change_with_the_cookie_must_come_from_our_page(client: FlaskClient) -> None:
    """With the cookie alone, a change must carry our own Origin."""
    client.get("/")
    assert client.put("/api/settings", json={"port": 7000}).status_code == 403
    assert client.put("/api/settings", json={"port": 7000}, headers={"Origin": "null"}).status_code == 403
    assert client.put("/api/settings", json={"port": 7000}, headers={"Origin": HOME}).status_code == 200


def test_another_computer_needs_the_api_key(client: FlaskClient) -> None:
    """From beyond loopback only the API key opens, and it opens no control."""
    there = {"REMOTE_ADDR": "192.0.2.7"}
    assert client.get("/", environ_base=there).status_code == 401
    assert client.get("/v1/models", environ_base=there).status_code == 401
    key = {"Authorization": "Bearer the key", "Host": "my-pc.lan:7714"}
    assert client.get("/v1/models", environ_base=there, headers=key).status_code == 200
    assert client.get("/api/settings", environ_base=there, headers=key).status_code == 401
    assert "Set-Cookie" not in client.get("/", environ_base=there, headers=key).headers


def test_another_user_of_this_pc_is_refused(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loopback connection of another Unix user gets nothing without the API key."""
    monkeypatch.setattr("webchat.door._other_user", lambda: True)
    for path in PAGES:
        assert client.get(path).status_code == 403
    key = {"Authorization": "Bearer the key"}
    assert client.get("/v1/models", headers=key).status_code == 200
    for path in ("/", "/swarm"):
        assert "Set-Cookie" not in client.get(path, headers=key).headers
    assert client.get("/api/settings", headers=key).status_code == 401  # the key opens no control


def test_a_required_key_is_asked_for(reader: FakeReader) -> None:
    """With ``api_key_required`` the APIs for text want the key, as OpenAI's would."""
    client = create_app(reader, Door(api_key="the key", api_key_required=True)).test_client()
    assert client.get("/v1/models", base_url=HOME).status_code == 401
    answer = client.get("/v1/models", base_url=HOME, headers={"Authorization": "Bearer nope"})
    assert answer.get_json()["error"] == {
        "message": "An API key is needed. Send it as a bearer token: idlebloom key prints it.",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }
    key = {"Authorization": "Bearer the key"}
    assert client.get("/v1/models", base_url=HOME, headers=key).status_code == 200


def test_the_key_is_read_when_one_is_brought(reader: FakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the start, for keyrings are slow; a new key counts soon, and the old one no more."""
    keys, now = iter(["first", "second"]), [0.0]
    monkeypatch.setattr("webchat.door.time.monotonic", lambda: now[0])
    door = Door(api_key_required=True, read_key=lambda: next(keys))
    client = create_app(reader, door).test_client()

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return client.get("/v1/models", base_url=HOME, headers=headers).status_code

    assert client.get("/v1/models", base_url=HOME).status_code == 401
    assert (
        client.get("/v1/models", base_url=HOME, headers={"Authorization": f"Bearer {door.token}"}).status_code
        == 200
    )
    assert (status("second"), status("first")) == (401, 200)
    now[0] = 11.0
    assert (status("first"), status("second")) == (401, 200)


def test_keys_cannot_be_tried_fast(reader: FakeReader) -> None:
    """After some wrong ones the answer is to wait; the right one still opens."""
    client = create_app(reader, Door(api_key="the key", api_key_required=True)).test_client()

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return client.get("/v1/models", base_url=HOME, headers=headers).status_code

    tried = [status(f"guess {number}") for number in range(80)]
    assert tried[0] == 401 and tried[-1] == 429
    assert client.get("/v1/models", base_url=HOME).headers["Retry-After"] == "1"
    assert status("the key") == 200


@pytest.mark.parametrize("path", ["/", "/swarm", "/nothing", "/v1/models", "/static/js/chat.js"])
def test_every_answer_carries_the_strict_policy(client: FlaskClient, path: str) -> None:
    """No inline script or style, no frames, no sniffing, no referrer, errors included."""
    with client.get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_an_unforeseen_error_says_nothing_of_the_inside(
    owner: FlaskClient, reader: FakeReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client hears that something went wrong; neither it nor the log gets what was in the error."""

    def broken() -> None:
        raise RuntimeError("my secret prompt")

    monkeypatch.setattr(reader, "status", broken)
    with caplog.at_level(logging.DEBUG):
        answer = owner.get("/api/status?once=1")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text and "secret" not in answer.text
    assert "secret" not in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"]
)
def test_no_path_leads_out_of_the_static_folder(client: FlaskClient, path: str) -> None:
    """Tricks with dots and slashes find nothing."""
    assert client.get(path).status_code in (404, 308)


def test_an_oversized_body_is_refused(owner: FlaskClient) -> None:
    """A body beyond the limit is refused before it is read."""
    answer = owner.post("/v1/completions", data=b"x" * (2 * 2**20 + 1), content_type="application/json")
    assert answer.status_code == 413
    assert json.loads(answer.data)["error"]["message"] == "The request is too large."
