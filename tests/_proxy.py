"""A proxy between a client and a server, which can lose connections, replies and time. It lives in the test's event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

__all__ = ["Proxy", "running_proxy"]


class Proxy:
    """This forwards what comes, unless told otherwise."""

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self.accepted = 0
        """Connections taken so far."""
        self.lose_reply_to: bytes | None = None
        """The reply to the next request with these bytes in it is read from the server and thrown away, and the connection cut."""
        self.lose_request_with: bytes | None = None
        """The next request with these bytes in it is not forwarded, and the connection cut."""
        self.lost = 0
        """How often the two above have struck."""
        self.lose_again = 0
        """How many times more they strike."""
        self.refuse = False
        """New connections are closed as soon as they are made."""
        self.silent = False
        """Replies are held back."""
        self.silent_from: bytes | None = None
        """From a request with these bytes in it on, replies are held back."""
        self.deaf = False
        """Requests are held back, and arrive later."""
        self.delay = 0.0
        """Seconds by which every request and every reply is late."""
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stranded: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """This is where clients connect."""
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """This is the number of clients connected now."""
        return len(self._writers)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """This ends every connection and takes no new ones; `start` opens the same port again."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """This ends every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    def strand(self) -> None:
        """This forwards nothing more, either way, on the connections that stand now, and closes none of them: neither side can know."""
        self._stranded |= self._writers

    def half_close(self) -> None:
        """This tells every client that nothing more will come, and goes on listening to it."""
        for writer in self._writers:
            writer.write_eof()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuse:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):  # the stream's own task: its end is no news to anybody
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        answering = asyncio.create_task(self._answer(server_reader, writer))
        try:
            while request := await reader.read(1 << 20):
                if self.silent_from is not None and self.silent_from in request:
                    self.silent = True
                if self._strikes(self.lose_request_with, request):
                    return
                if self._strikes(self.lose_reply_to, request):
                    answering.cancel()
                    await asyncio.wait([answering])
                    server_writer.write(request)
                    await server_reader.read(1)
                    return
                await self._held_back(lambda: self.deaf or writer in self._stranded)
                server_writer.write(request)
                await server_writer.drain()
        finally:
            answering.cancel()
            server_writer.transport.abort()  # before anything is awaited: `stop` may cut that short
            await asyncio.wait([answering])

    async def _held_back(self, holds: Callable[[], bool]) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        while holds():
            await asyncio.sleep(0.005)

    def _strikes(self, what: bytes | None, request: bytes) -> bool:
        if what is None or what not in request or self.lost > self.lose_again:
            return False
        self.lost += 1
        return True

    async def _answer(self, server_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while reply := await server_reader.read(1 << 20):
                await self._held_back(lambda: self.silent or writer in self._stranded)
                writer.write(reply)
                await writer.drain()
        except (OSError, RuntimeError):  # the client has gone, or was told that nothing more would come
            pass
        finally:
            writer.transport.abort()  # the server has gone, and so has this


@asynccontextmanager
async def running_proxy(target_port: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Proxy]:
    """This is a proxy for the length of a block; with `tls` its clients are to speak TLS, and the server need not know any."""
    proxy = Proxy(target_port, tls)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
