"""Schedules are a function of their seed, and of nothing else."""

from __future__ import annotations

from tests.faults._schedule import DIVIDED, FAULTS, WORKERS, Schedule, made


def test_a_seed_gives_the_same_schedule_each_time():
    assert made(7, 20.0) == made(7, 20.0)
    assert made(7, 20.0) != made(8, 20.0)


def test_a_schedule_survives_being_written():
    schedule = made(8, 20.0)

    assert Schedule.loads(schedule.dumps()) == schedule


def test_every_other_docket_is_divided_unless_it_is_told():
    assert [made(seed, 20.0).shards for seed in (1, 2, 3, 4)] == [1, DIVIDED, 1, DIVIDED]
    assert (made(1, 20.0, 16).shards, made(2, 20.0, 1).shards) == (16, 1)


def test_every_fault_and_every_task_comes_up():
    schedules = [made(seed, 20.0) for seed in range(1, 11)]

    assert {fault.kind for schedule in schedules for fault in schedule.faults} == set(FAULTS)
    asked = {order.task for schedule in schedules for story in schedule.stories for order in story.orders}
    assert asked == {"", "steady", "flaky", "limited", "paced", "newcomer", "stubborn", "relay", "link"}


def test_a_worker_has_one_fault_at_a_time():
    for seed in range(1, 11):
        free = [0.0] * len(WORKERS)
        for fault in made(seed, 60.0).faults:
            if fault.kind in ("kill", "stop", "term"):
                assert fault.at > free[fault.target]
                free[fault.target] = fault.at + fault.lasts


def test_keys_are_of_one_story_each():
    keys = [story.key for story in made(7, 60.0).stories]

    assert len(keys) == len(set(keys))
