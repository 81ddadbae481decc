"""The tree of errors, from docket/errors.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docket_site.source import Module, Source

__all__ = ["errors"]

ROOT = "DocketError"


def errors(source: Source) -> str:
    """This is the tree, or (with `each`) every error by name with what it means and what to do."""
    module = Module.read(source.root, "docket.errors")
    bases: dict[str, list[str]] = {}
    for name in module.public:
        node = module.node(name)
        assert isinstance(node, ast.ClassDef)
        bases[name] = [ast.unparse(base) for base in node.bases]
    if source.about == "each":
        return "\n".join(line for name in sorted(module.public, key=lambda name: name != ROOT) for line in _entry(name, bases[name], module.doc_of(name)))
    return "\n".join(_branch(ROOT, bases, 0))


def _branch(name: str, bases: dict[str, list[str]], depth: int) -> Iterator[str]:
    """This is a part of the tree as a list."""
    also = [base for base in bases[name] if base not in bases and base != "Exception"]
    yield f"{'    ' * depth}* [`{name}`](#{name.lower()}){': also a ' + ', '.join(f'`{base}`' for base in also) if also else ''}"
    for child in bases:
        if bases[child][0] == name:
            yield from _branch(child, bases, depth + 1)


def _entry(name: str, bases: list[str], doc: str) -> Iterator[str]:
    yield from (f"### {name}", "", f"*{', '.join(f'`{base}`' for base in bases)}*", "", doc, "")
