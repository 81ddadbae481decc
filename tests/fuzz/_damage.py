"""Bytes that somebody tampered with: valid ones that were cut, flipped, doubled or filled up; JSON of any shape; lengths that lie; nests without a floor."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

__all__ = ["LONG_NUMBERS", "anything", "as_json", "damaged", "joined", "json_texts", "json_values", "nested", "packed", "pickles"]

MOST_DEEP = 200_000
"""Brackets in a row: far more than any parser may call itself."""

LONG_NUMBERS = st.integers(1, 13).map(lambda power: b"9" * 2**power)  # Python reads whole numbers of up to 4,300 digits


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """This gives bytes that were whole once."""
    written = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(written)))
        match draw(st.sampled_from(["flip", "cut", "put", "double", "drop", "number"])):
            case "flip" if at < len(written):
                written[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del written[at:]
            case "put":
                written[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "double":
                written[at:at] = written[at : at + draw(st.integers(1, 20))]
            case "drop":
                del written[at : at + draw(st.integers(1, 20))]
            case _:
                written[at:at] = draw(LONG_NUMBERS)
    return bytes(written)


def joined(*parts: bytes) -> bytes:
    """This puts bytes together."""
    return b"".join(parts)


def packed(fields: Sequence[bytes]) -> bytes:
    """This writes netstrings."""
    return b"".join([b"%d:%b," % (len(field), field) for field in fields])


def _nest(opening: bytes, depth: int, middle: bytes) -> bytes:
    return opening * depth + middle


nested = st.builds(
    _nest,
    st.sampled_from([b"[", b'{"a":', b"[[],", b"(", b"["]),
    st.sampled_from([10, 500, 990, 1_100, 10_000, MOST_DEEP]),
    st.binary(max_size=4),
)

_ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["NaN", "Infinity", "2026-05-01", "2026-05-01T12:00:00+00:00", "P1DT30S", "1e999999", "AAAA", "RED", "a", "\ud800", "-P1D", "12:00"])
    | LONG_NUMBERS.map(bytes.decode)
)


def json_values(atoms: st.SearchStrategy[Any] = _ATOMS) -> st.SearchStrategy[Any]:
    """This gives whatever JSON can say, small; names are often those that somebody asks for."""
    names = st.sampled_from(["name", "value", "parent", "int", "enum", "when", "args", "class", "module"]) | st.text(max_size=5)
    return st.recursive(atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12)


def as_json(value: Any) -> bytes:
    """This writes JSON, surrogates and all."""
    return json.dumps(value).encode()


json_texts = json_values().map(as_json)

pickles = st.builds(
    pickle.dumps,
    st.tuples(st.lists(_ATOMS, max_size=3).map(tuple), st.dictionaries(st.text(max_size=5), _ATOMS, max_size=3)) | _ATOMS,
    st.integers(0, 5),
)

anything = st.binary(max_size=64) | nested | json_texts | damaged(json_texts)
