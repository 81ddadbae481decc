"""How many examples the model test and the fuzzers try: a few in CI, the same ones every time; more, and others each time, where asked.

`DOCKET_TESTS_EXAMPLES=100 pytest tests/model tests/fuzz --timeout 0` tries a hundred times as many. What fails is printed as a call of
`@reproduce_failure`, and is tried first in the next such run.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

__all__ = ["TIMES", "examples"]

TIMES = float(os.environ.get("DOCKET_TESTS_EXAMPLES", "1"))


def examples(usual: int, *, steps: int = 50) -> settings:
    """This is the budget of one test: so many examples, and steps in each where it has any. There is no deadline: other tests may keep the machine busy."""
    return settings(
        max_examples=max(1, int(usual * TIMES)),
        stateful_step_count=steps,
        deadline=None,
        derandomize=TIMES == 1,
        database=settings.default.database if TIMES != 1 else None,  # pyright: ignore[reportOptionalMemberAccess] - there is a default
        print_blob=True,
        phases=[phase for phase in Phase if phase is not Phase.explain],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
            HealthCheck.large_base_example,
        ],
    )
