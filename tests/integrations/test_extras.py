"""The integrations are optional: docket does without them, and they say what they need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize(("integration", "missing"), [("fastapi", "fastapi"), ("django", "django"), ("django", "asgiref"), ("sentry", "sentry_sdk")])
def test_an_integration_without_its_extra_says_what_to_install(integration: str, missing: str):
    done = python(f"import sys; sys.modules[{missing!r}] = None; import docket.integrations.{integration}")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"ImportError: docket.integrations.{integration} needs {missing}, which is not installed: pip install 'pydocket[{integration}]'"


def test_what_else_cannot_be_imported_is_said_as_it_is():
    done = python("import sys; sys.modules['urllib3'] = None; import docket.integrations.sentry")

    assert done.returncode == 1
    assert "ModuleNotFoundError: import of urllib3 halted" in done.stderr.splitlines()[-1]


def test_docket_imports_none_of_them():
    done = python(
        "import docket, sys; docket.Docket, docket.Worker; print({'fastapi', 'starlette', 'django', 'sentry_sdk', 'docket.integrations'} & set(sys.modules))"
    )

    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
