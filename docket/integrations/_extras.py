"""What is said when an integration is imported without the library that it integrates."""

from __future__ import annotations

__all__ = ["not_installed"]


def not_installed(extra: str, exc: ImportError, *libraries: str) -> ImportError:
    """This makes the error that names the extra; one that is about something else is given as it is."""
    missing = (exc.name or "").partition(".")[0]
    if missing not in libraries:
        return exc
    return ImportError(f"docket.integrations.{extra} needs {missing}, which is not installed: pip install 'pydocket[{extra}]'", name=exc.name)
