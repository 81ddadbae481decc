"""Turns `module:member` into the object it names, or into an error that helps.

What the object is used for is the caller's business.
"""

import difflib
import importlib
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable
from types import ModuleType
from typing import Any, cast

from docket.errors import LoadError

__all__ = ["did_you_mean", "load", "load_option", "members_of"]

_OBJECTS = ("credential_provider", "result_storage")
_VARIABLE = "env:"
_MEMBER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def load(path: str) -> Any:
    """This imports the module of `module:member` and gives the member, which may be dotted (`module:a.b`).

    Raises `LoadError`: the path is not of that form, there is no such module, the module has no such member, or the
    module raised an error of its own while it was imported (which is then the `__cause__`).
    """
    module_name, colon, member = path.partition(":")
    if not (colon and module_name and member) or not all(part.isidentifier() for part in [*module_name.split("."), *member.split(".")]):
        raise LoadError(f"Cannot load {path!r}: write module:member, such as my_tasks:tasks")

    found: Any = _import(module_name, path)
    walked = f"module {module_name!r}"
    for part in member.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as exc:
            raise LoadError(f"Cannot load {path!r}: no {part!r} in {walked}{_suggest_member(part, found)}") from exc
        walked = f"{part!r} of {walked}"
    return found


def load_option(name: str, value: Any) -> Any:
    """This gives the value of an option that was given as text: what `module:member` names, where the option is an object. Anything but text stays as it is.

    Signing keys may also be `env:NAME`: a variable that holds them, separated by commas, so that they stand on no command line and in no error.
    Raises `LoadError`.
    """
    if name == "accept" and not isinstance(value, str):
        return [load_option("serializer", each) for each in value]
    if not isinstance(value, str):
        return value
    if name == "signing_keys":
        return _keys_of_variable(value.removeprefix(_VARIABLE)) if value.startswith(_VARIABLE) else _keys_of_member(value)
    return load(value) if name in _OBJECTS or (name == "serializer" and ":" in value) else value


def _keys_of_variable(variable: str) -> list[str]:
    keys = [key.strip() for key in os.environ.get(variable, "").split(",") if key.strip()]
    if not keys:
        raise LoadError(f"signing_keys are to come from the variable {variable!r}, which is not set or empty")
    return keys


def _keys_of_member(path: str) -> Any:
    if not _MEMBER.fullmatch(path):  # not shown: it may be a key
        raise LoadError("signing_keys takes module:member or env:NAME, and was given something else, perhaps a key itself, which should not stand there")
    found = load(path)
    if not isinstance(found, (list, tuple)) or not found:
        raise LoadError(f"{path!r} is a {type(found).__name__}; for signing_keys, name a list of keys that is not empty")  # pyright: ignore[reportUnknownArgumentType]
    return cast("Any", found)


def members_of(path: str, found: object) -> list[Any]:
    """This gives the functions and handles of a collection that was loaded. Raises `LoadError` when it is none, or holds something else."""
    if isinstance(found, str) or not isinstance(found, Iterable):
        if callable(found):
            raise LoadError(f"{path!r} is a single callable; put it into a list and name that, or name a Docket")
        raise LoadError(f"{path!r} is a {type(found).__name__}; name a list of tasks, or a Docket")
    members = list(cast("Iterable[object]", found))
    for position, member in enumerate(members):
        if not callable(member):
            raise LoadError(f"{path!r} holds a {type(member).__name__} at position {position}; a collection of tasks holds functions and handles only")
    return members


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """This ends an error message with the name that was probably meant; empty when none comes close."""
    close = difflib.get_close_matches(asked, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _import(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise _failed_inside(name, path, exc) from exc
        parent, _, missing = exc.name.rpartition(".")
        hint = did_you_mean(missing, _modules_in(parent)) or "; is its folder the current one, or its package installed?"
        raise LoadError(f"Cannot load {path!r}: there is no module {exc.name!r}{hint}") from exc
    except Exception as exc:  # whatever the user's module raises becomes one error that says where
        raise _failed_inside(name, path, exc) from exc


def _failed_inside(name: str, path: str, exc: Exception) -> LoadError:
    return LoadError(f"Cannot load {path!r}: module {name!r} was found, and importing it raised {type(exc).__name__}: {exc} ({_place(exc)})")


def _place(exc: Exception) -> str:
    if isinstance(exc, SyntaxError):
        return f"{exc.filename}, line {exc.lineno}"
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def _modules_in(parent: str) -> list[str]:
    if not parent:
        return [module.name for module in pkgutil.iter_modules()]
    return [module.name for module in pkgutil.iter_modules(getattr(sys.modules.get(parent), "__path__", []))]


def _suggest_member(asked: str, owner: object) -> str:
    public = [name for name in dir(owner) if not name.startswith("_")]
    return did_you_mean(asked, public) or (
        f"; it has {', '.join(public[:10])}{', ...' if len(public) > 10 else ''}" if public else "; it has no public members"
    )
