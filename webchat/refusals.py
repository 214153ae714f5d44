"""What a client is told when it cannot have what it asked for: JSON in OpenAI's shape, never a traceback."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import WebsocketMismatch
from wsproto.utilities import RemoteProtocolError

from core.errors import (
    IdlebloomError,
    ModelError,
    NodeError,
    NoDonor,
    NotAccepted,
    Refused,
    Stopped,
    SwarmError,
    TooLong,
    UserError,
)
from core.words import sentence
from webchat.snapshots import span_shape
from webchat.values import BadValue

log = logging.getLogger(__name__)
SORRY = "something went wrong inside this program"


class Refusal(Exception):
    """An HTTP error with words. ``code`` is for programs, ``param`` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        advice: str = "",
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.advice = status, message, advice
        self.code, self.param = code, param

    @property
    def title(self) -> str:
        """What is wrong, as a sentence; the field at fault in front keeps its spelling."""
        said = sentence(self.message)
        named = self.param is not None and self.message.startswith(self.param)
        return self.message[:1] + said[1:] if named else said

    @property
    def shape(self) -> dict[str, object]:
        return {
            "message": f"{self.title} {self.advice}".strip(),
            "type": KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error"),
            "param": self.param,
            "code": self.code,
        }


KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
STATUSES: tuple[tuple[type[IdlebloomError], int, str | None], ...] = (
    (TooLong, 400, "context_length_exceeded"),
    (NotAccepted, 403, "licence_not_accepted"),
    (UserError, 400, None),
    (NoDonor, 503, "no_donor"),
    (Refused, 503, "refused"),
    (SwarmError, 503, "swarm_error"),
    (ModelError, 503, "model_error"),
    (NodeError, 503, "node_error"),
    (Stopped, 503, "stopped"),
    (IdlebloomError, 500, None),
)


def refusal_of(error: Exception) -> Refusal:
    """The words for any error; those that nobody foresaw are logged, and say nothing of the inside."""
    match error:
        case Refusal():
            return error
        case BadValue():
            return Refusal(400, str(error), param=error.field, code=error.code)
        case RemoteProtocolError():
            return Refusal(400, "this is no WebSocket handshake")
        case RecursionError():
            return Refusal(400, "the request is nested too deeply")
        case WebsocketMismatch():
            return Refusal(400, "this address is for HTTP or for WebSocket alone, and this was the other")
        case HTTPException():
            return Refusal(error.code or 500, HTTP_WORDS.get(error.code, error.name.lower()))
        case IdlebloomError():
            for kind, status, code in STATUSES:
                if isinstance(error, kind):
                    return Refusal(status, error.message, advice_of(error), code=code)
    # The message may quote what the reader wrote: the log gets the kind and the place alone.
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "nowhere"
    log.error("%s at %s", type(error).__name__, place)
    return Refusal(500, SORRY, "Try again; its log says more.")


HTTP_WORDS: dict[int | None, str] = {
    400: "this is not a request that can be read: its body must be JSON",
    404: "there is nothing at this address",
    405: "this address takes no such request",
    413: "the request is too large",
    415: "send JSON, with the header Content-Type: application/json",
}


def advice_of(error: IdlebloomError) -> str:
    if error.advice or not isinstance(error, SwarmError):
        return error.advice
    return "Try again: another route may work."


def error_shape(error: Exception) -> dict[str, object]:
    """As the page shows it: what is wrong, and what to do; ``message`` is what is wrong as commands say it.
    Of layers without a donor the page says itself which blocks they are."""
    if isinstance(error, IdlebloomError):
        shape: dict[str, object] = {
            "title": sentence(error.message),
            "message": error.message,
            "advice": advice_of(error),
            "kind": type(error).__name__,
        }
        if isinstance(error, NoDonor):
            shape |= {"missing": [span_shape(span) for span in error.missing], "why": error.why}
        return shape
    refusal = refusal_of(error)
    return {"title": refusal.title, "message": refusal.message, "advice": refusal.advice, "kind": "error"}


def install(app: Flask) -> None:
    def answer(error: Exception) -> Response:
        refusal = refusal_of(error)
        response = _page(refusal) if _for_a_person() else jsonify(error=refusal.shape)
        response.status_code = refusal.status
        if isinstance(error, MethodNotAllowed):
            response.allow.update(error.valid_methods or ())
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if refusal.status == 429:
            response.headers["Retry-After"] = "1"
        return response

    app.register_error_handler(Exception, answer)


def _for_a_person() -> bool:
    """A browser that opens an address asks for HTML; scripts and other programs do not."""
    kinds = ("application/json", "text/html")
    return request.method == "GET" and request.accept_mimetypes.best_match(kinds) == "text/html"


def _page(refusal: Refusal) -> Response:
    way_back = refusal.status in (401, 404, 405)
    return make_response(
        render_template("refused.html", title=refusal.title, advice=refusal.advice, way_back=way_back)
    )
