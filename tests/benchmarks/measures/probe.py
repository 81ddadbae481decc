"""Looks at the Redis server from outside while something else uses it. Never part of what is measured."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from typing_extensions import Self


class _Connection(Protocol):
    async def execute_command(self, *arguments: str | int | bytes) -> object: ...

    async def aclose(self) -> None: ...


class Probe:
    """This is one connection of the benchmark's own to the server, left out of everything it counts."""

    def __init__(self, url: str) -> None:
        self._connection = cast("_Connection", cast("Any", Redis).from_url(url, single_connection_client=True, protocol=2))
        self._own_id = 0

    async def __aenter__(self) -> Self:
        self._own_id = cast("int", await self._connection.execute_command("CLIENT", "ID"))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._connection.aclose()

    async def flush(self) -> None:
        """This empties the server."""
        await self._connection.execute_command("FLUSHALL", "SYNC")

    async def used_memory(self) -> int:
        """This returns the bytes the server says it uses."""
        return cast("int", (await self._info("memory"))["used_memory"])

    async def processor_seconds(self) -> float:
        """This returns what the server process has used so far."""
        info = await self._info("cpu")
        return float(cast("float", info["used_cpu_user"])) + float(cast("float", info["used_cpu_sys"]))

    async def completed(self) -> dict[str, int]:
        """This returns how many runs of docket have been completed, by the prefix of their keys: those of a docket, or of one of its shards."""
        found: dict[str, int] = {}
        for key in cast("list[bytes]", await self._connection.execute_command("KEYS", "*}:meta")):
            completed = cast("bytes | None", await self._connection.execute_command("HGET", key, "completed"))
            found[key.decode(errors="replace")] = int(completed or 0)
        return found

    async def keys(self) -> list[str]:
        """This returns the names of the first thousand keys or so, those whose time is over left out."""
        _, found = cast("tuple[bytes, list[bytes]]", await self._connection.execute_command("SCAN", 0, "COUNT", 1_000))
        return [key.decode(errors="replace") for key in found]

    async def connections(self) -> int:
        """This returns how many connections there are besides the probe's own."""
        listed = cast("list[dict[str, str]]", await self._connection.execute_command("CLIENT LIST"))
        return sum(int(client["id"]) != self._own_id for client in listed)

    async def reset_counts(self) -> None:
        """This starts `commands` and `slow_commands` over."""
        await self._connection.execute_command("SLOWLOG", "RESET")
        await self._connection.execute_command("CONFIG", "RESETSTAT")

    async def commands(self) -> dict[str, int]:
        """This returns how often each command was called since the last reset, those inside of scripts included."""
        stats = cast("dict[str, dict[str, int]]", await self._info("commandstats"))
        calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
        calls.pop("config|resetstat", None)
        return calls

    async def note_commands_over(self, milliseconds: float) -> None:
        """This has the server remember, from now on, every command that takes longer."""
        await self._connection.execute_command("CONFIG", "SET", "slowlog-log-slower-than", int(1000 * milliseconds))
        await self._connection.execute_command("CONFIG", "SET", "slowlog-max-len", 10_000)
        await self._connection.execute_command("SLOWLOG", "RESET")

    async def slow_commands(self) -> list[tuple[float, str]]:
        """This returns what was remembered: milliseconds and the command's first words, slowest first."""
        entries = cast("list[dict[str, int | bytes]]", await self._connection.execute_command("SLOWLOG GET", 10_000))
        return sorted(((cast("int", entry["duration"]) / 1000, _words(entry["command"])) for entry in entries), reverse=True)

    async def _info(self, section: str) -> dict[str, object]:
        return cast("dict[str, object]", await self._connection.execute_command("INFO", section))


def _words(command: int | bytes) -> str:
    return command.decode(errors="replace")[:80] if isinstance(command, bytes) else str(command)
