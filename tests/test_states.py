"""The states of a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docket.states import LIVE, TERMINAL, TRANSITIONS, Disposition, ExecutionState

LUA = Path(__file__).parent.parent / "docket" / "lua"


def test_every_state_is_live_or_terminal():
    assert set(ExecutionState) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


def test_nothing_follows_an_end_and_something_follows_everything_else():
    assert set(TRANSITIONS) == set(ExecutionState)
    for state, following in TRANSITIONS.items():
        assert (state in TERMINAL) is (not following)


@pytest.mark.parametrize("state", sorted(LIVE, key=str))
def test_whatever_lives_can_be_cancelled(state: ExecutionState):
    assert ExecutionState.CANCELLED in TRANSITIONS[state]


def test_every_state_can_be_reached():
    reached = {ExecutionState.SCHEDULED}
    while more := {following for state in reached for following in TRANSITIONS[state]} - reached:
        reached |= more

    assert reached == set(ExecutionState)


def test_the_scripts_know_the_same_states_as_live():
    found = re.search(r"local LIVE = \{(.*)\}", (LUA / "include" / "run.lua").read_text())
    assert found is not None

    assert set(re.findall(r"(\w+) = true", found[1])) == {state.value for state in LIVE}


def test_the_words_are_those_that_users_know():
    assert [state.value for state in ExecutionState] == ["scheduled", "queued", "running", "completed", "failed", "cancelled"]
    assert [disposition.value for disposition in Disposition] == ["loaded", "scheduled", "already_scheduled", "struck", "superseded", "failed"]
