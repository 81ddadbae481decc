"""Runs another measure with hiredis hidden from redis-py: `without_hiredis.py floor.py`. It shows what hiredis is worth."""

from __future__ import annotations

import runpy
import sys
from types import ModuleType
from typing import cast

sys.modules["hiredis"] = cast("ModuleType", None)  # an import of it now fails
runpy.run_path(sys.argv[1], run_name="__main__")
