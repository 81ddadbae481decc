"""`docket strike`, `docket restore` and `docket strikes`; what a strike then does is `tests/test_strikes.py`'s business, or its neighbours'."""

import asyncio
import enum
import json
import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Disposition, Docket, ExecutionCancelled, Worker
from docket._instructions import Operator
from docket._literals import EnumMember, parse_literal, parse_pair
from docket.cli._strikes import OPERATORS, typed_literal
from tests.cli._command import Command
from tests.cli._terminal import open_terminal


def on_the_server(test: Any) -> Any:
    return pytest.mark.only_server("a command is a process of its own")(test)


SOON = timedelta(seconds=15)


class Color(enum.Enum):
    RED = "red"


@on_the_server
async def test_a_strike_from_the_shell_holds_on_a_worker_at_once(docket: Docket, pointed: Command):
    ran: list[int] = []

    async def charge(customer: int) -> None:
        ran.append(customer)

    docket.register(charge)
    before = await docket.add(charge, when=timedelta(hours=1))(5)
    async with Worker(docket) as worker:
        running = asyncio.ensure_future(worker.run_forever())

        struck = await pointed.aside("strike", "charge", "customer", "==", "int:5")
        after = await docket.add(charge)(5)
        other = await docket.add(charge)(6)
        await other.get_result(timeout=SOON)
        await before.promote()
        with pytest.raises(ExecutionCancelled):
            await before.get_result(timeout=SOON)

        restored = await pointed.aside("restore", "charge", "customer", "==", "int:5")
        again = await docket.add(charge)(5)
        await again.get_result(timeout=SOON)
        worker.stop()
        await running

    assert (struck.returncode, struck.stdout, struck.stderr) == (0, "Struck charge(customer == 5).\n", "")
    assert (restored.returncode, restored.stdout, restored.stderr) == (0, "Restored charge(customer == 5).\n", "")
    assert after.disposition is Disposition.STRUCK
    assert ran == [6, 5]


@on_the_server
@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ((), "*(*)"),
        (("*",), "*(*)"),
        (("", ""), "*(*)"),
        (("charge",), "charge(*)"),
        (("charge", "*"), "charge(*)"),
        (("charge", "customer"), "charge(customer == None)"),
        (("*", "tenant", "==", "acme"), "*(tenant == 'acme')"),
        (("charge", "amount", ">=", "decimal:9.99"), "charge(amount >= Decimal('9.99'))"),
        (("charge", "amount", "between", "int:1..5"), "charge(amount between (1, 5))"),
        (("charge", "when", "<", "datetime:2030-01-31T12:00Z"), "charge(when < datetime.datetime(2030, 1, 31, 12, 0, tzinfo=datetime.timezone.utc))"),
        (("charge", "color", "!=", "my_colors.Color:RED"), "charge(color != my_colors.Color.RED)"),
    ],
)
async def test_what_is_typed_names_calls(arguments: tuple[str, ...], calls: str, docket: Docket, pointed: Command):
    (pointed.folder / "my_colors.py").write_text("import enum\nclass Color(enum.Enum):\n    RED = 'red'\n")

    struck = pointed("strike", *arguments)

    assert (struck.returncode, struck.stdout) == (0, f"Struck {calls}.\n")
    assert pointed("restore", *arguments).stdout == f"Restored {calls}.\n"


@on_the_server
async def test_saying_it_again_changes_nothing_and_says_so(docket: Docket, pointed: Command):
    pointed("strike", "charge")
    struck = pointed("strike", "charge")
    pointed("restore", "charge")
    restored = pointed("restore", "charge")

    assert (struck.returncode, struck.stdout, struck.stderr) == (0, "", "charge(*) is struck already.\n")
    assert (restored.returncode, restored.stdout, restored.stderr) == (0, "", "charge(*) is not struck; docket strikes lists what is.\n")


@on_the_server
async def test_a_script_gets_an_object(docket: Docket, pointed: Command):
    first = json.loads(pointed("strike", "charge", "customer", ">", "int:5", "--json").stdout)
    again = json.loads(pointed("strike", "charge", "customer", ">", "int:5", "--json").stdout)
    restored = json.loads(pointed("restore", "charge", "customer", ">", "int:5", "--json").stdout)

    calls = {"function": "charge", "parameter": "customer", "operator": ">", "value": "int:5"}
    assert first == restored == {**calls, "changed": True}
    assert again == {**calls, "changed": False}


@on_the_server
async def test_what_is_struck_is_listed_as_it_can_be_typed(docket: Docket, pointed: Command):
    await docket.strike()
    await docket.strike("charge", "customer", "==", 5)
    await docket.strike("charge", "amount", "between", (Decimal(1), Decimal("9.5")))

    listed = pointed("strikes")
    as_json = [json.loads(line) for line in pointed("strikes", "--json").stdout.splitlines()]

    assert [re.split(r"  +", line) for line in listed.stdout.splitlines()] == [
        ["FUNCTION", "PARAMETER", "OPERATOR", "VALUE"],
        ["*", "*"],
        ["charge", "amount", "between", "decimal:1..decimal:9.5"],
        ["charge", "customer", "==", "int:5"],
    ]
    assert as_json == [
        {"function": None, "parameter": None, "operator": None, "value": None},
        {"function": "charge", "parameter": "amount", "operator": "between", "value": "decimal:1..decimal:9.5"},
        {"function": "charge", "parameter": "customer", "operator": "==", "value": "int:5"},
    ]
    for function, parameter, operator, value in (each.values() for each in as_json):
        typed = (function, parameter, operator, value) if parameter else (function or "*",)
        assert pointed("restore", *typed).returncode == 0
    assert pointed("strikes").stderr == "Nothing is struck.\n"


@on_the_server
async def test_on_a_terminal_there_is_a_table(docket: Docket, pointed: Command):
    await docket.strike("charge")

    with open_terminal(pointed, "strikes", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert terminal.text.splitlines()[1].split() == ["charge", "*"]
    await docket.restore("charge")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("charge", "amount", "=>", "int:5"), "'=>' is not one of"),
        (("charge", "amount", "==", "int:five"), "'int:five' asks for an int"),
        (("charge", "amount", "between", "int:5"), "'int:5' is not a range"),
        (("charge", "amount", ">"), "> asks for an order"),
        (("charge", "*", "==", "int:5"), "Name the parameter"),
        (("charge", "amount", "==", "decimal.Context:5"), "decimal.Context"),
    ],
)
def test_what_cannot_be_struck_is_a_wrong_use(arguments: tuple[str, ...], said: str, docket_command: Command):
    refused = docket_command("strike", *arguments)

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("strike",), "ends now: no worker would ever learn of it"),
        (("restore",), "ends now: no worker would ever learn of it"),
        (("strikes",), "has only just begun: nothing is struck in it"),
    ],
)
def test_memory_is_refused_because_nobody_would_learn_of_it(command: tuple[str, ...], reason: str, docket_command: Command):
    refused = docket_command(*command, "--url", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr == f"Error: memory://here lives inside one process, and this one {reason}; give --url redis://...\n"


def test_every_operator_can_be_typed():
    assert [operator.value for operator in Operator] == OPERATORS


LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.decimals(allow_nan=False),
    st.datetimes(min_value=datetime(2, 1, 1), timezones=st.just(timezone.utc)),
    st.dates(),
    st.times(),
    st.timedeltas(min_value=timedelta(days=-10000), max_value=timedelta(days=10000)),
    st.uuids(),
)


@given(LITERALS)
def test_a_value_is_listed_as_it_can_be_typed(value: object):
    assert parse_literal(typed_literal(value)) == value
    assert type(parse_literal(typed_literal(value))) is type(value)


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, "none:"),
        (True, "bool:true"),
        (1, "int:1"),
        (0, "int:0"),
        (1.0, "float:1.0"),
        ("five", "five"),
        ("int:5", "str:int:5"),
        ("", "str:"),
        (Decimal("9.90"), "decimal:9.90"),
        (date(2030, 1, 31), "date:2030-01-31"),
        (time(12), "time:12:00:00"),
        (timedelta(), "timedelta:0ms"),
        (timedelta(minutes=90), "timedelta:90m"),
        (timedelta(milliseconds=1500), "timedelta:1500ms"),
        (timedelta(microseconds=1), "timedelta:0.001ms"),
        (timedelta(seconds=-5), "timedelta:-5s"),
        (UUID(int=1), "uuid:00000000-0000-0000-0000-000000000001"),
        (EnumMember.of(Color.RED), f"{__name__}.Color:RED"),
        ((1, 5), "int:1..int:5"),
    ],
)
def test_a_value_is_listed_as_somebody_would_type_it(value: object, typed: str):
    assert typed_literal(value) == typed


def test_a_pair_is_listed_as_it_can_be_typed():
    assert parse_pair(typed_literal((Decimal(1), Decimal("9.5")))) == (Decimal(1), Decimal("9.5"))
