"""What is kept of an attempt that failed, for the dead letter that its run may become."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING

from docket._clock import iso_us
from docket._worker._report import described
from docket.dependencies._verdicts import Discard
from docket.errors import ArgumentsChanged, DeliveriesExhausted, PayloadError, PayloadRefused, UnknownTask

if TYPE_CHECKING:
    from docket._store.records import Claimed

__all__ = ["failed_attempt", "reason_of"]

MOST_ERROR = 1000
MOST_TRACEBACK = 4000
"""Characters that are kept; of a traceback the last ones, which tell where it happened."""

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (DeliveriesExhausted, "poison"),
    (PayloadRefused, "refused"),
    (PayloadError, "undecodable"),
    (ArgumentsChanged, "arguments"),
    (UnknownTask, "unknown"),
    (Discard, "discarded"),
)


def reason_of(exception: BaseException | None) -> str:
    """This says in a word why a run failed: failed, poison, refused (not signed as it should be, or not accepted), undecodable, unknown, discarded, or arguments (they do not bind)."""
    return next((word for kind, word in _REASONS if isinstance(exception, kind)), "failed")


def failed_attempt(claimed: Claimed, exception: BaseException | None, *, worker: str, ended_us: int, reason: str) -> bytes:
    """This tells of an attempt as a line of JSON."""
    where = "" if exception is None or exception.__traceback__ is None else "".join(traceback.format_exception(exception))
    told = {
        "attempt": claimed.attempt,
        "reason": reason,
        "error": described(exception)[:MOST_ERROR],
        "traceback": where[-MOST_TRACEBACK:],
        "worker": worker,
        "started_at": iso_us(claimed.started_us),
        "ended_at": iso_us(max(ended_us, claimed.started_us)),  # what we know of the server's clock may lag behind it by milliseconds
    }
    return json.dumps(told, separators=(",", ":")).encode()
