"""Every public name says what it is for, in the form that the reference page shows. Read as text, as that page is made, so that no extra is needed."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import docket.dependencies
import docket.errors
from docket_site.source import Module, origin, public_modules

ROOT = Path(__file__).parent.parent


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


MODULES = [name for name in public_modules(ROOT) if not name.startswith(("docket.cli", "docket.__main__"))]
NOT_SHOWN = {"overload", "setter", "deleter"}  # decorators of what repeats another definition
EXCEPTIONS = {
    "ImproperlyConfigured",  # Django's
    *(name for module in (builtins, docket.errors, docket.dependencies) for name, value in vars(module).items() if _is_exception(value)),
}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def is_shown(node: ast.stmt) -> bool:
    """This says whether it is a definition that a user may call by its name."""
    if not isinstance(node, Definition) or node.name.startswith("_"):
        return False
    return not any(ast.unparse(decorator).split(".")[-1] in NOT_SHOWN for decorator in node.decorator_list)


def lineage(module: str, name: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """This gives a class of docket and those that it inherits from, each with the module it stands in."""
    home, there = origin(ROOT, module, name)
    node = Module.read(ROOT, home).node(there) if there else None
    if isinstance(node, ast.ClassDef):
        yield home, node
        for base in node.bases:
            parent = ast.unparse(base).partition("[")[0]
            if Module.read(ROOT, home).node(parent) is not None:
                yield from lineage(home, parent)


def documented_behind(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """This gives what is declared with an annotation in the body of a class, with the string that stands behind it."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            string = after.value if isinstance(after, ast.Expr) else None
            yield node.target.id, str(string.value) if isinstance(string, ast.Constant) else ""


def public() -> tuple[dict[str, str], dict[str, str]]:
    """These are the docstrings of all public classes, functions, methods and properties, and those of values and fields, by the names they are known by."""
    told: dict[str, str] = {}
    values: dict[str, str] = {}
    for module in MODULES:
        for name in Module.read(ROOT, module).public:
            home, there = origin(ROOT, module, name)
            if not there:
                continue  # a module, which is public itself
            doc = Module.read(ROOT, home).doc_of(there)
            (told if isinstance(Module.read(ROOT, home).node(there), Definition) else values)[f"{module}.{name}"] = doc
            for _, node in lineage(module, name):
                for member in filter(is_shown, node.body):
                    known = f"{module}.{name}.{cast('Definition', member).name}"
                    told[known] = told.get(known) or ast.get_docstring(cast("Definition", member)) or ""
                for field, said in documented_behind(node.body):
                    values[f"{module}.{name}.{field}"] = values.get(f"{module}.{name}.{field}") or said
    return told, values


DOCSTRINGS, VALUES = public()


def test_there_are_many():
    assert {"docket.docket.Docket.add", "docket.Worker", "docket.errors.InDoubt", "docket.integrations.django.schedule_on_commit"} <= set(DOCSTRINGS)
    assert {"docket.dependencies.ExponentialRetry.after", "docket.testing.run_task", "docket.Handle.schedule"} <= set(DOCSTRINGS)
    assert {"docket.states.TERMINAL", "docket.TaskCall.key", "docket.dependencies.ExponentialRetry.attempt"} <= set(VALUES)


def test_a_public_module_says_what_it_is_for():
    assert [module for module in MODULES if not Module.read(ROOT, module).doc()] == []


def test_a_public_name_has_a_docstring_that_finishes_this():
    others = {name: doc[:40] for name, doc in DOCSTRINGS.items() if not re.match(r"(This|These)\b", doc)}

    assert others == {}


def test_a_public_value_has_a_docstring_behind_it_or_stands_in_that_of_its_class():
    silent = [name for name, doc in VALUES.items() if not doc and f"`{name.rpartition('.')[2]}`" not in DOCSTRINGS.get(name.rpartition(".")[0], "")]

    assert silent == []


def test_what_a_docstring_says_is_raised_exists():
    """After `Raises`, up to the end of the sentence, names in backticks that look like a class's are exceptions."""
    wrong: dict[str, set[str]] = {}
    seen: set[str] = set()
    for name, doc in DOCSTRINGS.items():
        for sentence in re.findall(r"\b[Rr]aises? (.*?)(?:[.](?:\s|$)|$)", doc, flags=re.DOTALL):
            named = set(re.findall(r"`([A-Z]\w*)`", sentence))
            seen |= named & EXCEPTIONS
            if named - EXCEPTIONS:
                wrong[name] = named - EXCEPTIONS

    assert wrong == {}
    assert {"InvalidArguments", "ResultUnavailable", "NameTaken", "KeyError"} <= seen
