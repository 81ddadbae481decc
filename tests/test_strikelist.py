"""The list of strikes: alone, with a docket, and what it says in the log."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Any

import pytest

from docket import Docket, Execution, StrikeList
from docket._clock import SYSTEM
from docket._literals import EnumMember
from docket.errors import InvalidOption, NotEntered
from docket.strikelist import LiteralOperator, Operator, Restore, Strike, StrikeInstruction
from tests._servers import RedisServer
from tests._telemetry import traced
from tests._waiting import eventually

HOME = Docket(url="memory://strikes")


class Colour(Enum):
    RED = "red"


async def send(customer: int, region: str = "eu") -> None: ...


def call(*args: Any, **kwargs: Any) -> Execution[Any]:
    return Execution(HOME, send, args, kwargs, "k", None, 1)


@pytest.fixture
async def strikes(docket_name: str, url: str) -> AsyncIterator[StrikeList]:
    """This is an entered list of the docket that the test is about."""
    async with StrikeList(url, docket_name) as strikes:
        yield strikes


# Alone, and for this process only


async def test_without_a_url_a_list_is_local_and_needs_no_entering():
    strikes = StrikeList()
    await strikes.wait_for_strikes_loaded()

    assert strikes.is_loaded
    assert strikes.in_effect is False
    assert not strikes.is_stricken(call(5))
    assert await strikes.strike("send", "customer", "==", 5) is True
    assert await strikes.strike("send", "customer", "==", 5) is False

    assert strikes.in_effect is True
    assert strikes.is_stricken(call(5))
    assert not strikes.is_stricken(call(6))
    assert strikes.stricken_by(call(5)) == Strike("send", "customer", Operator.EQUAL, 5)
    assert strikes.instructions == (Strike("send", "customer", Operator.EQUAL, 5),)

    assert await strikes.restore("send", "customer", "==", 5) is True
    assert await strikes.restore("send", "customer", "==", 5) is False
    assert strikes.in_effect is False
    assert strikes.stricken_by(call(5)) is None


async def test_a_local_list_may_be_entered_all_the_same():
    async with StrikeList() as strikes:
        await strikes.strike(None, "customer", ">", 5)

    assert strikes.is_stricken({"customer": 6})
    assert not strikes.is_stricken({"customer": 5})
    assert not strikes.is_stricken({})


@pytest.mark.parametrize("operator", [each.value for each in Operator])
async def test_every_operator_may_be_written(operator: LiteralOperator):
    strikes = StrikeList()

    await strikes.strike(None, "customer", operator, (1, 5) if operator == "between" else 5)

    assert strikes.is_stricken({"customer": {"==": 5, "!=": 6, ">": 6, ">=": 5, "<": 4, "<=": 5, "between": 3}[operator]})


async def test_functions_are_named_in_any_way():
    strikes = StrikeList()
    handle = HOME.task(name="emails.send")(send)

    await strikes.strike(send)
    await strikes.strike(handle)
    await strikes.strike("by name")
    await strikes.strike()

    assert [strike.function for strike in strikes.instructions] == ["send", "emails.send", "by name", None]
    with pytest.raises(InvalidOption, match="has no name of its own; give the name that its tasks have"):
        await strikes.strike(functools.partial(send, 5))


async def test_what_cannot_be_struck_is_refused():
    strikes = StrikeList()

    with pytest.raises(InvalidOption, match="a bytes cannot be compared with across processes"):
        await strikes.strike("send", "customer", "==", b"5")
    with pytest.raises(InvalidOption, match="operator is '~='"):
        await strikes.strike("send", "customer", "~=", 5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - as it may come from outside
    with pytest.raises(InvalidOption, match="says neither strike nor restore; give a Strike or a Restore"):
        await strikes.send_instruction(StrikeInstruction("send"))
    with pytest.raises(InvalidOption, match="says neither strike nor restore"):
        strikes.update(StrikeInstruction("send"))
    assert strikes.instructions == ()


async def test_instructions_may_be_sent_as_they_are():
    strikes = StrikeList()

    assert await strikes.send_instruction(Strike("send")) is True
    assert await strikes.send_instruction(Restore("send")) is True
    assert strikes.update(Strike("send")) is True
    assert strikes.update(Strike("send")) is False
    assert strikes.update(Restore("send")) is True
    assert strikes.update(Restore("send")) is False


@pytest.mark.parametrize(("name", "url", "why"), [("a{b}", None, "name is 'a{b}'"), ("", None, "name is ''"), ("orders", "", "url is empty")])
def test_names_and_urls_are_checked(name: str, url: str | None, why: str):
    with pytest.raises(InvalidOption, match=why):
        StrikeList(url, name)


def test_it_spells_the_keys_of_its_docket():
    strikes = StrikeList(name="orders")

    assert strikes.name == "orders"
    assert strikes.prefix == "{orders}:"
    assert strikes.strike_key == "{orders}:strikes"
    assert repr(strikes) == "<StrikeList 'orders', 0 in effect>"


# Conditions


async def test_a_condition_decides_as_well():
    strikes = StrikeList()
    asked: list[str] = []

    def in_the_us(execution: Execution[Any]) -> bool:
        asked.append(execution.key)
        return execution.get_argument("region") == "us"

    strikes.add_condition(in_the_us)

    assert strikes.in_effect
    assert strikes.is_stricken(call(5, "us"))
    assert not strikes.is_stricken(call(5, "eu"))
    struck_by = strikes.stricken_by(call(5, "us"))
    assert struck_by is not None
    assert struck_by.call_repr().startswith("the condition ") and struck_by.call_repr().endswith("in_the_us")
    assert strikes.instructions == ()
    asked.clear()
    assert not strikes.is_stricken({"region": "us"})
    await strikes.strike("send")
    assert strikes.stricken_by(call(5, "us")) == Strike("send")
    assert asked == []

    await strikes.restore("send")
    strikes.remove_condition(in_the_us)
    strikes.remove_condition(in_the_us)
    assert not strikes.is_stricken(call(5, "us"))
    assert not strikes.in_effect


def test_a_condition_that_fails_strikes_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture):
    strikes = StrikeList()

    def broken(execution: Execution[Any]) -> bool:
        raise RuntimeError("on purpose")

    strikes.add_condition(broken)
    strikes.add_condition(lambda execution: execution.args == (6,))

    assert not strikes.is_stricken(call(5))
    assert strikes.is_stricken(call(6))
    [record] = caplog.records
    assert record.getMessage().startswith("The condition ") and "broken failed for send, so it strikes nothing" in record.getMessage()
    assert record.exc_info is not None


def test_a_condition_that_would_have_to_be_awaited_is_refused():
    async def later(execution: Execution[Any]) -> bool:
        return False

    asynchronous: Any = later
    with pytest.raises(InvalidOption, match="is asynchronous; a condition has to answer at once"):
        StrikeList().add_condition(asynchronous)


# With a docket's name


async def test_a_list_follows_the_strikes_of_the_docket_of_its_name(docket: Docket, strikes: StrikeList):
    await strikes.wait_for_strikes_loaded()
    await docket.strike(send, "customer", "==", 5)

    await eventually(lambda: strikes.is_stricken(call(5)))
    assert docket.strike_list.instructions == strikes.instructions

    await docket.restore(send, "customer", "==", 5)
    await eventually(lambda: not strikes.in_effect)


async def test_what_a_list_strikes_the_docket_has_struck(docket: Docket, strikes: StrikeList):
    assert await strikes.strike("send", "customer", "between", (1, 5)) is True
    assert strikes.is_stricken(call(3))

    await eventually(lambda: docket.strike_list.in_effect)
    assert docket.strike_list.instructions == (Strike("send", "customer", Operator.BETWEEN, (1, 5)),)


async def test_entering_reads_what_is_struck(docket: Docket, docket_name: str, url: str):
    await docket.strike("send", "colour", "==", Colour.RED)

    strikes = StrikeList(url, docket_name)
    assert not strikes.is_loaded
    async with strikes:
        assert strikes.is_loaded
        [strike] = strikes.instructions
        assert strike.value == EnumMember(f"{__name__}.Colour", "RED")
        await docket.strike(None, "colour", "==", Colour.RED)
        await eventually(lambda: strikes.is_stricken({"colour": Colour.RED}))

    assert not strikes.is_loaded
    assert not strikes.in_effect
    async with strikes:
        assert len(strikes.instructions) == 2


async def test_a_list_that_is_not_entered_says_so(docket_name: str, url: str):
    strikes = StrikeList(url, docket_name)

    for doing in (strikes.wait_for_strikes_loaded(), strikes.strike("send"), strikes.restore("send")):
        with pytest.raises(NotEntered, match="is not entered; do this inside `async with strikes:`"):
            await doing
    async with strikes:
        with pytest.raises(NotEntered, match="is entered already"):
            await strikes.__aenter__()


async def test_what_is_struck_here_alone_is_kept_beside_what_all_have(docket: Docket, strikes: StrikeList):
    strikes.update(Strike("send"))
    await strikes.strike("send")
    await strikes.strike("other")
    await eventually(lambda: len(docket.strike_list.instructions) == 2)
    assert len(strikes.instructions) == 2

    await docket.restore("send")
    await eventually(lambda: docket.strike_list.instructions == (Strike("other"),))
    assert strikes.is_stricken(call(5))  # as it was struck here

    strikes.update(Restore("send"))
    assert not strikes.is_stricken(call(5))
    strikes.update(Strike("other"))
    assert len(strikes.instructions) == 1
    strikes.update(Restore("other"))
    assert not strikes.in_effect
    assert docket.strike_list.in_effect


async def test_one_that_stands_in_two_spellings_holds_until_both_are_gone(docket: Docket):
    struck = Strike("send", "customer", Operator.EQUAL, 5)
    spellings = [struck.field, json.dumps(json.loads(struck.field), indent=1).encode()]

    docket.strike_list.on_strikes(spellings, ())
    assert docket.strike_list.instructions == (struck,)

    docket.strike_list.on_strikes((), spellings[:1])
    assert docket.strike_list.is_stricken(call(5))

    docket.strike_list.on_strikes((), spellings[1:])
    assert not docket.strike_list.is_stricken(call(5))
    assert not docket.strike_list.in_effect

    docket.strike_list.on_strikes(spellings, ())
    assert docket.strike_list.update(Restore("send", "customer", Operator.EQUAL, 5))
    assert not docket.strike_list.in_effect


async def test_one_that_a_newer_version_made_is_left_out_and_that_is_said_once(docket: Docket, docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
    newer = b'{"function":"send","operator":"~","parameter":"p","value":{"regex":"a"}}'
    await docket.store.strikes.change(newer)
    await docket.strike("send")

    async with StrikeList(url, docket_name) as strikes:
        await strikes.strike("other")
        assert {strike.function for strike in strikes.instructions} == {"send", "other"}
    async with strikes:
        assert strikes.is_stricken(call(5))
        await docket.store.strikes.change(newer, restore=True)
        await eventually(lambda: newer not in strikes._undecodable)  # pyright: ignore[reportPrivateUsage] - nothing else tells

    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2  # the docket's own list, and this one
    assert all("is left out, because a newer version of docket seems to have made it" in words and "~" in words for words in said)


# The docket's own


async def test_a_docket_that_is_not_entered_says_so(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    for doing in (docket.strike(send), docket.restore(send), docket.wait_for_strikes_loaded(), docket.strike_list.strike(send)):
        with pytest.raises(NotEntered, match="is not entered; do this inside `async with docket:`"):
            await doing
    assert not docket.strike_list.is_loaded
    assert docket.strike_list.name == docket_name
    async with docket, docket.strike_list as strikes:
        await docket.wait_for_strikes_loaded()
        assert strikes.is_loaded
    assert not docket.strike_list.is_loaded


async def test_a_docket_may_be_entered_again_and_by_many(docket_name: str, url: str):
    docket = Docket(docket_name, url)
    async with docket:
        await docket.strike("send")
    assert not docket.strike_list.in_effect

    async def enter() -> bool:
        async with docket:
            await asyncio.sleep(0)
            return docket.strike_list.is_stricken(call(5))

    assert await asyncio.gather(*(enter() for _ in range(5))) == [True] * 5
    assert not docket.strike_list.in_effect


@pytest.mark.only_server("an event loop after another needs a server")
def test_so_it_is_in_one_event_loop_after_another(docket_name: str, redis_server: RedisServer):
    docket = Docket(docket_name, redis_server.url)

    async def enter() -> list[str]:
        async with docket:
            before = [strike.call_repr() for strike in docket.strike_list.instructions]
            await docket.strike(f"f{len(before)}")
            return sorted(before)

    assert [asyncio.run(enter()) for _ in range(3)] == [[], ["f0(*)"], ["f0(*)", "f1(*)"]]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.only_server("children share no memory with their parent")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_so_it_is_in_a_forked_child(docket_name: str, redis_server: RedisServer):
    docket = Docket(docket_name, redis_server.url)

    async def enter() -> set[str | None]:
        async with docket:
            await docket.strike(f"by {os.getpid()}")
            return {strike.function for strike in docket.strike_list.instructions}

    async def fork() -> int:
        async with docket:  # and the child starts in the middle of this
            await docket.strike("by the parent")
            child = os.fork()
            if child == 0:
                asyncio.events._set_running_loop(None)  # the parent's loop, which does not run here
                os._exit(0 if asyncio.run(enter()) == {"by the parent", f"by {os.getpid()}"} else 1)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            await eventually(lambda: len(docket.strike_list.instructions) == 2)
            return os.waitstatus_to_exitcode(status)

    assert asyncio.run(fork()) == 0


async def test_conditions_of_a_docket_stay_through_leaving_and_new_options(docket_name: str, url: str):
    docket = Docket("another", url)
    docket.strike_list.add_condition(lambda execution: True)
    docket.reconfigure(name=docket_name)

    async with docket:
        assert docket.strike_list.is_stricken(call(5))
    assert docket.strike_list.is_stricken(call(5))
    assert docket.strike_list.prefix == f"{{{docket_name}}}:"


async def test_a_docket_that_stands_apart_has_strikes_of_its_own(docket: Docket):
    await docket.strike(send)
    docket.strike_list.add_condition(lambda execution: True)

    async with docket.apart(SYSTEM):
        assert not docket.strike_list.in_effect
        await docket.strike("other")
        assert docket.strike_list.instructions == (Strike("other"),)

    assert docket.strike_list.instructions == (Strike("send"),)
    assert (await docket.store.strikes.load()).instructions == {Strike("send").field}


async def test_a_function_is_struck_under_the_name_it_has_on_the_docket(docket: Docket):
    docket.register(send, names=["emails.send"])
    handle = docket.task(name="emails.resend")(send)

    await docket.strike(send)
    await docket.strike(handle)
    await docket.strike(docket.add("by name"))
    await docket.strike(max)

    assert {strike.function for strike in docket.strike_list.instructions} == {"emails.send", "emails.resend", "by name", "max"}


async def test_something_that_cannot_be_registered_has_no_name(docket: Docket):
    class Unhashable:
        __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

        def __call__(self) -> None: ...

    with pytest.raises(InvalidOption, match="has no name of its own"):
        await docket.strike(Unhashable())


# What is told


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """This gives the lines so far, as level and message, and takes them away."""
    caplog.set_level(logging.INFO, "docket.strikelist")

    def taken() -> list[tuple[str, str]]:
        lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "docket.strikelist"]
        caplog.clear()
        return lines

    return taken


async def test_striking_and_restoring_are_logged(docket: Docket, said: Callable[[], list[tuple[str, str]]]):
    await docket.strike("f", "p", "==", 1)
    await docket.strike("f", "p", "==", 1)
    await docket.restore("f", "p", "==", 1)
    await docket.restore("f", "p", "==", 1)

    assert said() == [("INFO", "Striking 'f(p == 1)'"), ("INFO", "Restoring 'f(p == 1)'")]


async def test_the_lines_carry_what_they_tell_of(docket: Docket, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.strikelist")
    await docket.strike("f", "p", ">=", 1)

    [record] = [vars(record) for record in caplog.records if record.name == "docket.strikelist"]
    assert {name: record[name] for name in record if name.startswith("docket.")} == {
        "docket.name": docket.name, "docket.task": "f", "docket.parameter": "p", "docket.operator": ">=", "docket.value": "1",
    }  # fmt: skip


async def test_at_the_start_one_line_tells_how_many_there_are(docket: Docket, docket_name: str, url: str, said: Callable[[], list[tuple[str, str]]]):
    await docket.strike("f")
    await docket.strike("g")
    said()

    async with StrikeList(url, docket_name):
        assert said() == [("INFO", f"2 strikes are in effect on docket {docket_name!r}")]


async def test_many_changes_at_once_are_one_line(docket: Docket, said: Callable[[], list[tuple[str, str]]]):
    fields = [part for number in range(30) for part in (Strike(f"f{number}").field, "1")]
    await docket.store.backend.call("HSET", docket.store.keys.strikes, *fields)
    await docket.store.strikes.read()

    assert said() == [("INFO", f"30 strikes came or went; 30 are in effect on docket {docket.name!r}")]


async def test_striking_and_restoring_open_spans(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    with traced(monkeypatch) as spans:
        await docket.strike("f", "p", "between", (1, 5))
        await docket.restore("f")

        assert dict(spans.one("docket.strike").attributes or {}) == {
            "docket.name": docket.name, "docket.task": "f", "docket.parameter": "p", "docket.operator": "between", "docket.value": "(1, 5)",
        }  # fmt: skip
        assert dict(spans.one("docket.restore").attributes or {}) == {"docket.name": docket.name, "docket.task": "f"}


async def test_whoever_wants_to_know_is_told_when_something_is_restored(docket: Docket, strikes: StrikeList):
    told: list[str] = []
    with strikes.when_restored(lambda: told.append("restored")):
        await docket.strike("f")
        await docket.strike("g")
        await eventually(lambda: len(strikes.instructions) == 2)
        assert told == []

        await docket.restore("f")
        await eventually(lambda: told == ["restored"])
        strikes.update(Restore("g"))
        assert told == ["restored"] * 2
        strikes.remove_condition(len)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        assert told == ["restored"] * 3

    strikes.update(Strike("g"))
    strikes.update(Restore("g"))
    assert told == ["restored"] * 3
