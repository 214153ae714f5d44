"""The local door: who may speak to this PC's node over HTTP, and what they are told when they may not.

Every request is checked before any page or API sees it:

1. Host names this PC and our port, so that a foreign name pointed at 127.0.0.1 gets nothing.
2. From beyond this PC, or from another Unix user on it, only the API key opens.
3. A browser may only come from our own pages: a foreign or ``null`` Origin is refused.
4. Status, settings and chat also need the control cookie, which only our page sets, or the token.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from ipaddress import ip_address
from typing import ParamSpec, TypeVar

from flask import Flask, Response, current_app, request

from webchat.neighbour import ends_of, is_stranger
from webchat.refusals import Refusal
from webchat.turnstile import Pace

KEY_SECONDS = 10.0
WRONG_RATE, WRONG_BURST = 5.0, 50.0
"""Requests without a valid key that are told so, a second and at once."""
NAMES = ("127.0.0.1", "localhost", "[::1]")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Door:
    """``token`` is for the tray and the commands, who find it in ``door.json``; ``api_key`` for clients.
    Whether the key is required may be changed at any time."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_key_required: bool = False
    read_key: Callable[[], str | None] | None = field(default=None, repr=False)
    """Where the key is kept. It is read when a client first brings one, and anew now and then: asking a
    keyring takes its time, and the owner may have made another key."""
    _read_at: float = field(default=-math.inf, repr=False)
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _wrong: Pace = field(default_factory=lambda: Pace(WRONG_RATE, WRONG_BURST), repr=False)

    @property
    def cookie(self) -> str:
        """The control cookie's value. Browsers send it to every port of this PC, so it is not the token."""
        return hmac.digest(self.token.encode(), b"control cookie", hashlib.sha256).hex()

    def guard(self, app: Flask) -> None:
        app.extensions["door"] = self
        app.before_request(self._check)
        app.after_request(_harden)

    def _check(self) -> None:
        has_key = self._has_key()
        if not _from_this_pc():
            if not has_key:
                raise self._no_key(
                    "an API key is needed from another computer",
                    "Send the owner's as a bearer token: idlebloom key prints it there.",
                )
        elif not _own_host():
            raise Refusal(421, "this address does not name this program", "Open http://127.0.0.1 instead.")
        elif not has_key and _other_user():
            raise Refusal(
                403,
                "this node belongs to another user of this PC",
                "Ask them for an API key: idlebloom key prints theirs.",
                code="not_yours",
            )
        _check_origin()

    def is_owner(self) -> bool:
        """By the control cookie or the token."""
        return self.has_token() or _same(request.cookies.get(_cookie_name(), ""), self.cookie)

    def has_token(self) -> bool:
        """Only the owner's programs do; no page ever."""
        return _same(_bearer(), self.token)

    def let_in(self, response: Response) -> Response:
        """Give the page that goes out the control cookie. The API key opens the page to others too: it is a
        key to the APIs, not to what is the owner's."""
        if _from_this_pc() and not _other_user():
            response.set_cookie(_cookie_name(), self.cookie, httponly=True, samesite="Strict", path="/")
        return response

    def check_api(self) -> None:
        """May this request use the APIs for text?"""
        if not self.api_key_required or self.is_owner():
            return
        if not self._has_key():
            raise self._no_key("an API key is needed", "Send it as a bearer token: idlebloom key prints it.")

    def _has_key(self) -> bool:
        given = _bearer()
        if not given or _same(given, self.token):
            return False
        key = self._key()
        return key is not None and _same(given, key)

    def _key(self) -> str | None:
        if self.read_key is not None:
            with self._reading:
                if self.api_key is None or time.monotonic() - self._read_at > KEY_SECONDS:
                    self.api_key = self.read_key()
                    self._read_at = time.monotonic()
        return self.api_key

    def _no_key(self, message: str, advice: str = "") -> Refusal:
        """Keys are long, and yet nobody may try them as fast as he can."""
        if not self._wrong.allows():
            return Refusal(429, "too many requests without the key", "Wait.", code="rate_limit_exceeded")
        return Refusal(401, message, advice, code="invalid_api_key")


def for_owner(view: Callable[P, R]) -> Callable[P, R]:
    """A view for the owner's page, tray and commands alone."""

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_owner()
        return view(*args, **kwargs)

    return checked


def for_programs(view: Callable[P, R]) -> Callable[P, R]:
    """A view for the owner's programs alone: what no page needs, no page gets."""

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        door: Door = current_app.extensions["door"]
        if not door.has_token():
            raise Refusal(401, "this needs the token", "It is for Idlebloom's own programs.")
        return view(*args, **kwargs)

    return checked


def check_owner() -> None:
    door: Door = current_app.extensions["door"]
    if not door.is_owner():
        raise Refusal(401, "this needs the control cookie or the token", "Open the page anew.")
    is_socket = "websocket" in request.headers.get("Upgrade", "").lower()
    if (request.method != "GET" or is_socket) and not _bearer() and "Origin" not in request.headers:
        raise Refusal(403, "a request with the cookie must say where it comes from")


def _check_origin() -> None:
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        raise Refusal(403, "requests from other web pages are refused", code="foreign_origin")
    # Browsers leave Origin out of simple GETs, but say this. A link to our page from elsewhere is fine.
    site = request.headers.get("Sec-Fetch-Site", "none")
    is_visit = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if site not in ("none", "same-origin") and not is_visit:
        raise Refusal(403, "requests from other web pages are refused", code="foreign_origin")


def _own_host() -> bool:
    name, _, port = request.headers.get("Host", "").rpartition(":")
    return name.lower() in NAMES and port == request.environ["SERVER_PORT"]


def _from_this_pc() -> bool:
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _other_user() -> bool:
    connection = request.environ.get("werkzeug.socket")
    if connection is None:
        return False
    try:
        return is_stranger(ends_of(connection))
    except OSError:
        return True  # it has already hung up


def _bearer() -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _cookie_name() -> str:
    return f"idlebloom_{request.environ['SERVER_PORT']}"


def _harden(response: Response) -> Response:
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        # Safari does not count a WebSocket to ourselves as 'self'.
        "connect-src": f"'self' ws://{request.host}" if _own_host() else "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        # Of webchat/static/js/markup.js, for answers that the node has sanitised.
        "trusted-types": "idlebloom",
    }
    response.headers["Content-Security-Policy"] = "; ".join(
        f"{name} {value}" for name, value in policy.items()
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
