"""A Hugging Face hub as Idlebloom uses it: which files a revision has, and bytes out of them.

``huggingface_hub`` finds the files, pins the revision, and knows the hub's words for what is wrong;
bytes are read here, because they are ranges, metered, and must end within a second when told to:
everything awaits, so cancelling the task is how to stop.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx2
from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status

from core.errors import ModelError
from core.meter import Throttle

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[\w][\w./-]{0,127}")
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_RECEIVE_BUFFER = 256 * 1024
"""Bounds what the system takes in before the meter has counted it, so that a cap holds from the start."""


@dataclass(frozen=True)
class Source:
    """A model on the hub: ``organisation/name``, and a branch, tag or commit of it."""

    model_id: str
    revision: str = "main"

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.model_id) or ".." in self.model_id:
            raise ModelError(
                f"“{self.model_id}” is not a model id", "Write it as on the hub: bigscience/bloomz-560m."
            )
        if not _REVISION.fullmatch(self.revision) or ".." in self.revision:
            raise ModelError(f"“{self.revision}” is not a revision", "Name a branch, a tag or a commit.")

    @classmethod
    def parse(cls, text: str) -> Source:
        """From ``organisation/name`` or ``organisation/name@revision``."""
        model_id, at, revision = text.strip().partition("@")
        return cls(model_id, revision if at else "main")


@dataclass(frozen=True)
class HubFile:
    """One file of a revision. ``sha256`` is known for large files, ``blob`` (git's hash) for small ones."""

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """All files of one commit."""

    model_id: str
    commit: str
    files: dict[str, HubFile]


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait for a server in trouble. ``tries`` without a byte in between."""

    tries: int = 6
    first: float = 1.0
    longest: float = 60.0
    silence: float = 30.0
    """Seconds without a byte after which a connection counts as cut."""

    def pause(self, tried: int, asked: float | None) -> float:
        """Seconds before another try; what the server asked for is honoured, up to five minutes."""
        if asked is not None:
            return min(asked, 300.0)
        return min(self.longest, self.first * 2.0 ** (tried - 1)) * random.uniform(0.8, 1.2)


class _Trouble(Exception):
    """What another try may mend; ``asked``: the seconds that the server asked to wait."""

    def __init__(self, why: str, asked: float | None = None) -> None:
        super().__init__(why)
        self.asked = asked


class Hub:
    """``async with Hub() as hub``. By default the hub, token and proxies that the environment names."""

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        throttle: Throttle | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self._token = token or get_token()
        self._throttle = throttle or Throttle()
        self._patience = patience or Patience()
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._client = httpx2.AsyncClient(
            follow_redirects=True,
            timeout=self._patience.silence,
            transport=httpx2.AsyncHTTPTransport(
                socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)]
            )
            if not _proxied()
            else None,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def snapshot(self, source: Source) -> Snapshot:
        """The files of ``source``, with its revision pinned to a commit. ModelError where there is none."""
        tried = 0
        while True:
            try:
                return await asyncio.to_thread(self._ask, source)
            except _Trouble as trouble:
                tried += 1
                await self._wait(tried, trouble)

    def _ask(self, source: Source) -> Snapshot:
        _check_online()
        api = HfApi(endpoint=self.endpoint, token=self._token or False)
        try:
            info = api.model_info(
                source.model_id, revision=source.revision, files_metadata=True, timeout=self._patience.silence
            )
        except (HfHubHTTPError, httpx2.HTTPError) as error:
            raise self._judge(error, source.model_id, source.revision) from None
        files = {}
        for one in info.siblings or ():
            large = one.lfs.sha256 if one.lfs else None
            files[one.rfilename] = HubFile(one.rfilename, one.size or 0, large, one.blob_id)
        if not info.sha or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
            raise ModelError(f"{self.endpoint} names no commit of {source.model_id}", "Try again later.")
        return Snapshot(source.model_id, info.sha, files)

    async def read(
        self, snapshot: Snapshot, file: HubFile, begin: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """Bytes ``[begin, end)`` of a file in order, each once: after a cut it goes on where it was.

        Use ``aclosing``. ModelError when the server stays in trouble, refuses, or answers nonsense.
        """
        at, tried = begin, 0
        while at < end:
            try:
                async with aclosing(self._once(snapshot, file, at, end)) as stream:
                    async for data in stream:
                        at, tried = at + len(data), 0
                        yield data
                        await self._throttle.take(len(data))
                if at < end:
                    raise _Trouble("the connection ended early")
            except _Trouble as trouble:
                tried += 1
                await self._wait(tried, trouble)

    async def _once(
        self, snapshot: Snapshot, file: HubFile, begin: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """One request. Raises _Trouble where another may do better."""
        _check_online()
        assert self._client is not None, "used outside async with"
        url = hf_hub_url(snapshot.model_id, file.name, revision=snapshot.commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self._token or False) | {"Accept-Encoding": "identity"}
        whole = (begin, end) == (0, file.size)
        if not whole:
            headers["Range"] = f"bytes={begin}-{end - 1}"
        try:
            async with self._client.stream("GET", url, headers=headers) as response:
                if response.is_error:
                    await response.aread()
                    hf_raise_for_status(response)
                _check_range(response, file, begin, end, whole=whole)
                left = end - begin
                async for data in response.aiter_raw():
                    if len(data) > left:
                        raise ModelError(f"the hub sent more of {file.name} than was asked for", _LATER)
                    left -= len(data)
                    yield data
        except (HfHubHTTPError, httpx2.HTTPError) as error:
            raise self._judge(error, snapshot.model_id, snapshot.commit, file.name) from None

    async def _wait(self, tried: int, trouble: _Trouble) -> None:
        if tried >= self._patience.tries:
            raise ModelError(
                f"{self.endpoint} cannot be reached: {trouble}",
                "Check the network connection; what was fetched so far is kept.",
            ) from None
        await asyncio.sleep(self._patience.pause(tried, trouble.asked))

    def _judge(self, error: Exception, model_id: str, revision: str, file: str = "") -> _Trouble | ModelError:
        """What to make of a failed request: another try may help, or a sentence with the fix."""
        page = f"{self.endpoint}/{model_id}"
        match error:
            case GatedRepoError():
                return ModelError(
                    f"{model_id} is gated: its owners ask who you are before they give it out",
                    f"Accept its terms at {page}, then give a token of that account: idlebloom model token",
                )
            case RepositoryNotFoundError():
                return ModelError(
                    f"there is no model {model_id} on {self.endpoint}, or it is private",
                    "Check its spelling; for a private model give a token: idlebloom model token",
                )
            case RevisionNotFoundError():
                return ModelError(
                    f"{model_id} has no revision “{revision}”", f"Choose one of those at {page}/tree/main."
                )
            case RemoteEntryNotFoundError():
                return ModelError(f"{model_id} has no file {file} at {revision}", "Choose another revision.")
            case HfHubHTTPError() if error.response.status_code in _AGAIN:
                asked = _seconds(error.response.headers.get("Retry-After"))
                return _Trouble(f"it answers {error.response.status_code}", asked)
            case HfHubHTTPError() if error.response.status_code in (401, 403):
                return ModelError(
                    f"{self.endpoint} refuses access to {model_id}",
                    "Make a new token at its settings page and give it: idlebloom model token",
                )
            case HfHubHTTPError():
                status = error.response.status_code
                return ModelError(f"{self.endpoint} answers {status} for {file or model_id}", _LATER)
            case httpx2.TransportError():
                return _Trouble(_transport_words(error))
            case _:
                return ModelError(f"{self.endpoint} answers nonsense: {error}", _LATER)


_LATER = "Try again later."


def _check_online() -> None:
    if constants.is_offline_mode():
        raise ModelError("HF_HUB_OFFLINE forbids asking the hub", "Unset it, or choose a model folder.")


def _proxied() -> bool:
    """Whether the environment names a proxy: then httpx must choose the transport itself."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return any(os.environ.get(name) or os.environ.get(name.lower()) for name in names)


def _check_range(response: httpx2.Response, file: HubFile, begin: int, end: int, *, whole: bool) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ModelError(f"the hub sent {file.name} compressed", _LATER)
    if whole and response.status_code == 200:
        length = response.headers.get("Content-Length")
        if length is not None and length != str(file.size):
            raise ModelError(f"{file.name} has {length} bytes, not {file.size} as the hub lists", _LATER)
        return
    expected = f"bytes {begin}-{end - 1}/{file.size}"
    got = response.headers.get("Content-Range", "")
    if response.status_code != 206 or got != expected:
        raise ModelError(f"the hub sent “{got}” of {file.name}, not “{expected}”", _LATER)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip().isdigit() else None


def _transport_words(error: httpx2.TransportError) -> str:
    match error:
        case httpx2.ConnectError():
            return "no connection"
        case httpx2.TimeoutException():
            return "no answer in time"
        case _:
            return "the connection was cut"
