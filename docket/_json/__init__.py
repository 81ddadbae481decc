"""Python values as JSON, and back: by annotation, so that what arrives is of the class that the task asked for.

What no annotation speaks for is written as plain JSON. A value that would arrive as something else is refused before it leaves:
`Mismatch` says that a value is not of its annotation, `Unsupported` that JSON cannot carry what the annotation asks for.
"""

from __future__ import annotations

from docket._json.annotations import codec_of
from docket._json.codec import Codec, Mismatch, Plain, Unsupported, shown
from docket._json.text import from_text, to_text

__all__ = ["Codec", "Mismatch", "Plain", "Unsupported", "codec_of", "from_text", "shown", "to_text"]
