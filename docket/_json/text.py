"""JSON as text: what no other JSON reader would take is neither written nor read."""

from __future__ import annotations

import json
import math
from typing import Any

from docket._json.codec import Mismatch

__all__ = ["from_text", "to_text"]


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is more than a float can be")
    return number


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def to_text(written: Any) -> bytes:
    """This writes JSON. Raises `Mismatch` for what is nested too deep, or too long a number."""
    try:
        return _ENCODER.encode(written).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError) as exc:
        raise Mismatch(str(exc)) from exc


def from_text(data: bytes) -> Any:
    """This reads JSON. Raises `Mismatch` for anything else."""
    try:
        return _DECODER.decode(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as exc:
        raise Mismatch(str(exc)) from exc
