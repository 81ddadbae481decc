"""The keys of tasks that were not given one."""

from __future__ import annotations

import time
import uuid

from docket._uuid7 import uuid7


def test_each_is_a_uuid_of_version_7():
    for text in (uuid7() for _ in range(1000)):
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert abs(int(text[:8] + text[9:13], 16) - time.time() * 1000) < 10_000


def test_none_comes_twice():
    assert len({uuid7() for _ in range(10_000)}) == 10_000
