"""Seals: what proves that a payload was written by somebody who has one of the docket's keys, for that very run, and that nobody changed it.

What is sealed, and what follows when a seal is wrong, is `_payloads`' business.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from docket.errors import PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SEALED", "Signer", "unsealed"]

SEALED = b"\x03"
"""What a sealed payload begins with; then comes the code (32 bytes), then the payload itself."""

_CODE = 32
_DIGEST = "sha256"
_PURPOSE = "docket payload 1"  # so that no code which another program makes with the same key is good here


class Signer:
    """This seals for one docket with its first key, and takes what is sealed with any of them."""

    def __init__(self, docket: str, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        self._head = _fields(_PURPOSE, docket)

    def seal(self, kind: str, task: str, key: str, generation: int, payload: bytes, about: str = "") -> bytes:
        """This puts a seal before a payload: good for that kind of payload, of that run alone, and with what is said about it elsewhere."""
        return SEALED + hmac.digest(self._keys[0], self._message(kind, task, key, generation, payload, about), _DIGEST) + payload

    def opened(self, kind: str, task: str, key: str, generation: int, sealed: bytes, about: str = "") -> bytes:
        """This gives the payload behind a seal. Raises `PayloadRefused`."""
        of = f"the {kind} of {task}{{{key}}}"
        if not sealed.startswith(SEALED):
            raise PayloadRefused(
                f"{of} is not signed, and this docket has signing_keys, so it was not decoded; whoever wrote it needs one of the keys "
                "(while signing is being introduced, require_signatures=False takes what is not signed)"
            )
        code, payload = sealed[1 : 1 + _CODE], sealed[1 + _CODE :]
        message = self._message(kind, task, key, generation, payload, about)
        matches = False
        for candidate in self._keys:  # all of them, and in constant time: how long it takes tells nothing of the keys
            matches |= hmac.compare_digest(hmac.digest(candidate, message, _DIGEST), code)
        if matches:
            return payload
        raise PayloadRefused(
            f"{of} is not signed for this run (generation {generation}) by a key of this docket, so it was not decoded; "
            "it was altered, moved here from another run, or signed with a key that signing_keys no longer holds"
        )

    def _message(self, kind: str, task: str, key: str, generation: int, payload: bytes, about: str) -> bytes:
        return self._head + _fields(kind, task, key, str(generation), about) + payload


def unsealed(payload: bytes) -> bytes:
    """This takes the seal off a payload without looking at it: for what was opened before, and where there are no keys."""
    return payload[1 + _CODE :] if payload.startswith(SEALED) else payload


def _fields(*words: str) -> bytes:
    """Each with its length before it, so that no two lists of words look alike."""
    written = [word.encode("utf-8", "surrogatepass") for word in words]
    return b"".join([b"%d:%b," % (len(word), word) for word in written])
