"""The entries of the API reference: one for each name in the `__all__` of a public module, read by mkdocstrings where it is defined."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docket_site.source import Module, Source, origin, public_modules, sentence

__all__ = ["api", "entries", "names"]

NOT_PUBLIC = "not part of the public interface"  # what a docstring says of a member that only docket's own parts use
ELSEWHERE = ("docket.errors", "docket.cli")  # on pages of their own
PLAIN = ("docket.testing.plugin",)  # fixtures, told of on the page about testing


def entries(source: Source) -> dict[tuple[str, str], tuple[str, str]]:
    """This gives every public name, as module and name, with the entry that tells of it: where it is public under the same name first.

    What a module hands on from a public one is told of there; what it hands on from a private one is told of under the module.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    first: dict[tuple[str, str], tuple[str, str]] = {}
    modules = sorted((name for name in public_modules(source.root) if name not in PLAIN), key=lambda name: (name == "docket", name.count("."), name))
    for module in sorted(modules, key=lambda name: name == "docket"):  # the package hands on most of what it has
        for name in Module.read(source.root, module).public:
            defined = origin(source.root, module, name)
            at_home = defined[0] in modules and defined[1] == name
            first.setdefault(defined, defined if at_home else (module, name))
            found[module, name] = first[defined]
    return found


def names(source: Source) -> str:
    """This is a table of the names of a module, each with its first sentence and a link to its entry."""
    lines = [f"| `{source.about}` | |", "|---|---|"]
    told = entries(source)
    for name in Module.read(source.root, source.about).public:
        at, called = told[source.about, name]
        where, inside = origin(source.root, at, called)
        module = Module.read(source.root, where)
        says = sentence(module.doc_of(inside) if inside else module.doc()).replace("|", "\\|")
        link = f"errors.md#{called.lower()}" if at == "docket.errors" else f"#{at}.{called}" if inside else f"#{name}"
        lines.append(f"| [`{name}`]({link}) | {says} |")
    return "\n".join(lines)


def api(source: Source) -> str:
    """This is what mkdocstrings is told for a module, or (with `.*` behind it) for each public module below it that there is."""
    if not source.about.endswith(".*"):
        return "\n".join(_module(source, source.about))
    below = [name for name in public_modules(source.root) if name.startswith(source.about[:-1]) and Module.read(source.root, name).public]
    lines: list[str] = []
    for name in below:
        lines += [f"### {name}", "", sentence(Module.read(source.root, name).doc()), "", *_module(source, name)]
    return "\n".join(lines)


def _module(source: Source, module: str) -> Iterator[str]:
    """This gives the entries of a module, the one that it is named after first; and of what stands elsewhere, where."""
    told = entries(source)
    handed_on: list[str] = []
    chief = module.rpartition(".")[2]
    for name in sorted(Module.read(source.root, module).public, key=lambda name: (name.startswith("_"), name.lower() != chief)):
        at, called = told[module, name]
        if (at, called) == (module, name):
            if origin(source.root, module, name)[1]:  # else it is a module, which has a section of its own
                yield from _entry(source, module, name)
        elif module != "docket":
            handed_on.append(f"[`{name}`]({'errors.md#' + called.lower() if at == 'docket.errors' else '#' + at + '.' + called})")
    if handed_on:
        yield from (f"Also here: {', '.join(handed_on)}.", "")


def _entry(source: Source, module: str, name: str) -> Iterator[str]:
    yield from (f"::: {module}.{name}", "    options:", f"      filters: {_filters(source, module, name)}", "")


def _filters(source: Source, module: str, name: str) -> str:
    """This leaves out what has an underscore, and what says that it is not meant for others."""
    where, inside = origin(source.root, module, name)
    node = Module.read(source.root, where).node(inside)
    hidden = [
        member.name
        for member in (node.body if isinstance(node, ast.ClassDef) else [])
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and NOT_PUBLIC in (ast.get_docstring(member) or "")
    ]
    return str(["!^_[^_]", "!^__", *(f"!^{each}$" for each in hidden)])
