"""The table of Redis keys, from docket/_keys.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from docket._keys import Keys
from docket_site.source import Module, Source, sentence

__all__ = ["keys"]

KINDS = ("consumer group", "stream", "sorted set", "hash", "string", "channel")
KIND = re.compile(rf"\b({'|'.join(KINDS)})\b", re.IGNORECASE)
SAID_ALREADY = re.compile(rf"^(This is (the )?|This (?=[a-z]))|^({'|'.join(KINDS)}): |: an? ({'|'.join(KINDS)})(?=\.?$)", re.IGNORECASE)
OF_A_LIMIT = re.compile(r"^\* `(\w+)`: (.*)$", re.MULTILINE)


def _attributes(of: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """This gives the attributes that `__init__` sets, each with the string that stands behind it."""
    make = next(node for node in of.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    for node, after in zip(make.body, make.body[1:], strict=False):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute) and isinstance(after, ast.Expr):
            assert isinstance(after.value, ast.Constant)
            yield node.targets[0].attr, str(after.value.value)


def _methods(of: ast.ClassDef) -> Iterator[tuple[str, list[str], str]]:
    """This gives the public methods that spell one key, with their parameters and docstrings."""
    for node in of.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and isinstance(node.returns, ast.Name) and node.returns.id == "str":
            yield node.name, [argument.arg for argument in node.args.args[1:]], ast.get_docstring(node) or ""


def rows(source: Source) -> list[tuple[str, str, str]]:
    """This gives pattern, kind and content of every key and channel.

    Raises `ValueError` for a docstring that names no kind.
    """
    module = Module.read(source.root, "docket._keys")
    of = module.node("Keys")
    assert isinstance(of, ast.ClassDef)
    spell = Keys("name")
    told = [(pattern, doc) for name, doc in _attributes(of) if isinstance(pattern := getattr(spell, name), str)]
    for name, parameters, doc in _methods(of):
        if name == "limit":
            told += [(spell.limit(kind, "<limit>"), text) for kind, text in OF_A_LIMIT.findall(doc)]
        else:
            given = [f"<{parameter}>" for parameter in parameters]
            told.append((getattr(spell, name)(*given), doc))

    found: list[tuple[str, str, str]] = []
    for pattern, doc in told:
        named = [word.lower() for word in KIND.findall(doc)]
        if not named:
            raise ValueError(f"what docket/_keys.py tells of {pattern} names no kind ({', '.join(KINDS)}): {doc!r}")
        text = SAID_ALREADY.sub("", sentence(doc))
        found.append((pattern, "consumer group" if pattern == spell.group else named[0], text[0].upper() + text[1:]))
    return found


def keys(source: Source) -> str:
    """This is a table of one kind, `keys` or `channels`: a mark names which."""
    channels = source.about == "channels"
    lines = ["| pattern | kind | what it holds |", "|---|---|---|"] if not channels else ["| channel | what is said there |", "|---|---|"]
    for pattern, kind, text in rows(source):
        if (kind == "channel") is channels:
            lines.append(f"| `{pattern}` | {text} |" if channels else f"| `{pattern}` | {kind} | {text} |")
    return "\n".join(lines)
