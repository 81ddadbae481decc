"""The guides tell the truth: their Python runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["dependencies", "flow-control"])
def test_the_python_of_a_guide_runs(page: str, tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    program = tmp_path / "guide.py"
    program.write_text("\n".join(blocks))

    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)], cwd=tmp_path, env={"PYTHONPATH": str(DOCS.parent)}, capture_output=True, text=True, check=False
    )

    assert blocks
    assert done.returncode == 0, done.stderr
