"""Has the API reference show defaults as they are: `timedelta(seconds=2)`, where the signature says `DocketOptions.heartbeat_interval`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

from docket_site.parts.options import defaults_of

__all__ = ["Defaults"]

ROOT = Path(__file__).parents[3]
NAMED = re.compile(r"(DocketOptions|WorkerOptions)\.(\w+)")


class Defaults(griffe.Extension):
    """This puts the default of an option in place of its name, wherever it is a parameter's default."""

    def __init__(self) -> None:
        super().__init__()
        self.known = {f"{name}.{option}": default for name in ("DocketOptions", "WorkerOptions") for option, default in defaults_of(ROOT, name).items()}

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """This is called with every function that was read."""
        for parameter in func.parameters:
            if parameter.default is not None and NAMED.fullmatch(str(parameter.default)):
                parameter.default = self.known[str(parameter.default)]
