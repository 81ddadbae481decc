"""Every error under one root, and under the built-in that a caller would expect."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from docket import errors
from docket.errors import DocketError

BUILT_IN: dict[str, type[BaseException]] = {
    "ArgumentsChanged": TypeError,
    "CycleError": ValueError,
    "DeliveriesExhausted": RuntimeError,
    "DependencyFailed": RuntimeError,
    "DependencyNotGiven": TypeError,
    "EndlessWork": RuntimeError,
    "DocketError": Exception,
    "ExecutionCancelled": Exception,
    "ExecutionSuperseded": Exception,
    "InDoubt": ConnectionError,
    "InvalidArguments": TypeError,
    "InvalidOption": ValueError,
    "InvalidSchedule": ValueError,
    "InvalidURL": ValueError,
    "InvalidWorkerDependency": TypeError,
    "LayoutMismatch": RuntimeError,
    "ServerTooOld": RuntimeError,
    "LoadError": ImportError,
    "NameTaken": ValueError,
    "NoDocket": RuntimeError,
    "NotEntered": RuntimeError,
    "NotReplicated": RuntimeError,
    "NotSerializable": TypeError,
    "PayloadError": ValueError,
    "PayloadRefused": ValueError,
    "PayloadTooLarge": ValueError,
    "RedisUnavailable": ConnectionError,
    "ResultTimeout": TimeoutError,
    "ResultUnavailable": LookupError,
    "ServerError": RuntimeError,
    "UnknownTask": KeyError,
    "WouldBlock": RuntimeError,
    "WrongState": RuntimeError,
}


def test_every_error_is_listed():
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)}

    assert defined == set(errors.__all__) == set(BUILT_IN)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_an_error_is_caught_as_ours_and_as_its_built_in(name: str):
    kind: type[BaseException] = getattr(errors, name)

    assert issubclass(kind, DocketError)
    assert issubclass(kind, BUILT_IN[name])
    assert kind.__doc__ is not None
    assert kind.__doc__.startswith(("This ", "These "))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_an_error_shows_its_message_as_it_is_and_pickles(name: str):
    error: BaseException = getattr(errors, name)("what was asked, what was found, what to do")

    again = pickle.loads(pickle.dumps(error))

    assert str(error) == "what was asked, what was found, what to do"
    assert (type(again), str(again)) == (type(error), str(error))


def test_an_unknown_task_without_a_message_shows_none():
    assert str(errors.UnknownTask()) == ""


def test_a_timeout_is_caught_as_either_kind():
    assert issubclass(errors.ResultTimeout, TimeoutError)
    assert issubclass(errors.ResultTimeout, asyncio.TimeoutError)


def test_doubt_is_a_kind_of_being_unavailable_and_an_option_of_the_wrong_kind_is_an_invalid_one():
    assert issubclass(errors.InDoubt, errors.RedisUnavailable)
    assert issubclass(errors.InvalidWorkerDependency, errors.InvalidOption)
