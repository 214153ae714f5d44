"""What is said to libp2p's daemon over its unix socket to open and to take streams.

Messages are protobufs behind a varint of their length. After a stream is opened or taken, the same
socket carries its bytes. hivemind's own client does this too, but over asyncio's stream classes,
and an exception there is printed as never retrieved. Sockets are addressed by path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import SwarmError
from core.swarm.addresses import BadAddress, to_bytes, to_text, varint
from core.swarm.handlers import run_handler
from core.swarm.identity import base58_decode, base58_encode
from core.swarm.peer import Handler, StreamClosed
from core.swarm.secret import Secret, demand
from core.swarm.transport import SocketStream
from core.terms import PeerId

log = logging.getLogger(__name__)

_MAX_MESSAGE = 1 << 20
_MAX_STREAMS_OF_PEER = 128
_MAX_STREAMS = 2048
_HELLO_SECONDS = 10.0


class DaemonRefused(SwarmError):
    """The daemon answered with an error, in its own words."""


class Control:
    """Requests to the daemon that listens at ``path``; ``messages`` is hivemind's ``p2pd_pb2``."""

    def __init__(self, path: Path, messages: Any) -> None:
        self._path, self._pb = path, messages

    async def identify(self) -> tuple[PeerId, tuple[str, ...]]:
        """The daemon's peer id and the addresses it listens at, without ``/p2p/``."""
        answer = await self._ask(self._pb.Request(type=self._pb.Request.IDENTIFY))
        texts = []
        for data in answer.identify.addrs:
            with contextlib.suppress(BadAddress):  # of a kind that others could not dial either
                texts.append(to_text(data))
        return PeerId(base58_encode(answer.identify.id)), tuple(dict.fromkeys(texts))

    async def connected(self) -> frozenset[PeerId]:
        """Who there is a connection to now."""
        answer = await self._ask(self._pb.Request(type=self._pb.Request.LIST_PEERS))
        return frozenset(PeerId(base58_encode(peer.id)) for peer in answer.peers)

    async def connect(self, peer_id: PeerId, places: Sequence[str]) -> None:
        await self._ask(self._connect_request(peer_id, places))

    async def disconnect(self, peer_id: PeerId) -> None:
        """Closes all connections to a peer."""
        wanted = self._pb.DisconnectRequest(peer=base58_decode(peer_id))
        await self._ask(self._pb.Request(type=self._pb.Request.DISCONNECT, disconnect=wanted))

    async def open(self, peer_id: PeerId, places: Sequence[str], protocol: str) -> SocketStream:
        """A new stream, over a new connection if there is none to the peer yet."""
        wanted = self._pb.StreamOpenRequest(peer=base58_decode(peer_id), proto=[protocol])
        stream = await self._socket()
        try:
            if places:
                await self._exchange(stream, self._connect_request(peer_id, places))
            request = self._pb.Request(type=self._pb.Request.STREAM_OPEN, streamOpen=wanted)
            await self._exchange(stream, request)
        except BaseException:
            stream.close()
            raise
        stream.remote = peer_id
        return stream

    async def take(self, protocol: str, listener: Path) -> None:
        """From now on the daemon hands streams of this protocol to the socket ``listener``."""
        wanted = self._pb.StreamHandlerRequest(addr=_unix(listener), proto=[protocol], balanced=False)
        await self._ask(self._pb.Request(type=self._pb.Request.STREAM_HANDLER, streamHandler=wanted))

    def _connect_request(self, peer_id: PeerId, places: Sequence[str]) -> Any:
        wanted = self._pb.ConnectRequest(peer=base58_decode(peer_id), addrs=[to_bytes(p) for p in places])
        return self._pb.Request(type=self._pb.Request.CONNECT, connect=wanted)

    async def _ask(self, request: Any) -> Any:
        stream = await self._socket()
        try:
            return await self._exchange(stream, request)
        finally:
            stream.close()

    async def _exchange(self, stream: SocketStream, request: Any) -> Any:
        data = request.SerializeToString()
        stream.write(varint(len(data)), data)
        answer = self._pb.Response()
        answer.ParseFromString(await read_message(stream))
        if answer.type == self._pb.Response.ERROR:
            raise DaemonRefused(answer.error.msg)
        return answer

    async def _socket(self) -> SocketStream:
        loop = asyncio.get_running_loop()
        try:
            return (await loop.create_unix_connection(SocketStream, str(self._path)))[1]
        except OSError as error:
            raise StreamClosed("the network process has ended") from error


class Listener:
    """Serves the streams that the daemon hands over, each in a task of its own. Where there is a
    ``secret``, nothing is read of a stream before its dialler has proved to know it."""

    def __init__(
        self, messages: Any, handlers: Mapping[str, Handler], me: PeerId, secret: Secret | None = None
    ) -> None:
        self._pb, self._me, self._secret = messages, me, secret
        self.handlers = handlers
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: Counter[PeerId] = Counter()

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listens at ``path``; at the end all streams are closed and their handlers cancelled."""
        server = await asyncio.get_running_loop().create_unix_server(self._accept, str(path))
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> SocketStream:
        return _Incoming(self)

    def begin(self, stream: SocketStream) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: SocketStream) -> None:
        info = self._pb.StreamInfo()
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                info.ParseFromString(await read_message(stream))
        except (SwarmError, TimeoutError) as error:
            log.debug("a stream that did not say whose it is: %s", error)
            stream.close()
            return
        stream.remote = PeerId(base58_encode(info.peer))
        with contextlib.suppress(BadAddress):
            stream.remote_address = to_text(info.addr)
        handler = self.handlers.get(info.proto)
        if handler is None or not self._admits(stream.remote):
            stream.close()
            return
        self._open[stream.remote] += 1
        try:
            if await self._belongs(stream, info.proto):
                await run_handler(info.proto, handler, stream)
        finally:
            self._open[stream.remote] -= 1
            if not self._open[stream.remote]:
                del self._open[stream.remote]

    async def _belongs(self, stream: SocketStream, protocol: str) -> bool:
        if self._secret is None:
            return True
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                await demand(stream, self._secret, self._me, protocol)
        except (SwarmError, TimeoutError) as error:
            log.info("refused a stream from %s: %s", stream.remote, error or "it proved nothing")
            stream.close()
            return False
        return True

    def _admits(self, peer_id: PeerId) -> bool:
        """A peer may not open streams without end: each costs a task and two sockets."""
        if self._open[peer_id] >= _MAX_STREAMS_OF_PEER or self._open.total() >= _MAX_STREAMS:
            log.warning("refused a stream from %s: too many are open", peer_id)
            return False
        return True


class _Incoming(SocketStream):
    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.begin(self)


async def read_message(stream: SocketStream) -> bytes:
    """The bytes of one message behind its varint."""
    size = 0
    for shift in range(0, 28, 7):
        byte = (await stream.read(1))[0]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    if size > _MAX_MESSAGE:
        raise SwarmError("the network process sent a message that is too long")
    return await stream.read(size)


def _unix(path: Path) -> bytes:
    """The multiaddr /unix/path."""
    data = str(path).encode()
    return varint(400) + varint(len(data)) + data
