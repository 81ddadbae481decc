"""Why a run failed for good, in a word: what its dead letter says."""

from __future__ import annotations

__all__ = ["REASONS"]

REASONS = {
    "failed": "its attempts are used up",
    "discarded": "it raised Discard",
    "poison": "it took down the workers that ran it",
    "undecodable": "its arguments cannot be read",
    "refused": "its arguments are not signed as they should be, or of a kind that is not accepted",
    "arguments": "its arguments do not fit the function any more",
    "unknown": "no worker knew the task for too long",
}
