"""The tables of options, from docket/_options.py, with the flags and variables of `docket worker`."""

from __future__ import annotations

import ast
import dataclasses
from datetime import timedelta
from pathlib import Path

import click

from docket._options import DocketOptions, WorkerOptions
from docket.cli import app
from docket_site.source import Module, Source

__all__ = ["defaults_of", "options"]

CLASSES = {"docket": DocketOptions, "worker": WorkerOptions}
UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)), ("ms", timedelta(milliseconds=1)))
FLAGS_OF = {"name": {"docket": "docket", "worker": "name"}}  # options whose flag is called differently


def options(source: Source) -> str:
    """This is the table of the options of a `docket` or a `worker`: a mark names which."""
    of = CLASSES[source.about]
    told = _docs(source, of.__name__)
    flags = {parameter.name: parameter for parameter in _worker_command().params if isinstance(parameter, click.Option)}

    lines = ["| option | default | what it says | `docket worker` |", "|---|---|---|---|"]
    for option in dataclasses.fields(of):
        flag = flags.get(FLAGS_OF.get(option.name, {}).get(source.about, option.name))
        shared = option.name in told and source.about == "worker" and option.name in {each.name for each in dataclasses.fields(DocketOptions)} - {"name"}
        lines.append(f"| `{option.name}` | {_shown(option)} | {told[option.name]} | {'' if flag is None or shared else _flag(flag)} |")
    return "\n".join(lines)


def _docs(source: Source, name: str) -> dict[str, str]:
    """This gives what stands behind each field of a class."""
    of = Module.read(source.root, "docket._options").node(name)
    assert isinstance(of, ast.ClassDef)
    return {
        node.target.id: " ".join(str(after.value.value).split())
        for node, after in zip(of.body, of.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def _worker_command() -> click.Command:
    command = app.get_command(click.Context(app), "worker")
    assert command is not None
    return command


def _flag(option: click.Option) -> str:
    words = [f"`{max(option.opts, key=len)}`"]
    if isinstance(option.envvar, str):
        words.append(f"`{option.envvar}`")
    return "<br>".join(words)


def _shown(option: dataclasses.Field[object]) -> str:
    if option.default is dataclasses.MISSING:
        return "host and process"  # the one default that is made: a worker's name
    if isinstance(option.default, timedelta):
        return _duration(option.default)
    return f"`{option.default!r}`" if not isinstance(option.default, int) or isinstance(option.default, bool) else f"{option.default:,}"


def _duration(length: timedelta) -> str:
    """This writes a duration in the largest unit that fits: `15m`."""
    unit, one = next((unit, one) for unit, one in UNITS if length >= one and not length % one)
    return f"`{length // one}{unit}`"


def defaults_of(root: Path, name: str) -> dict[str, str]:
    """This gives the defaults of the options of a class as they are written; a constant of the module as its value."""
    module = Module.read(root, "docket._options")
    of = module.node(name)
    assert isinstance(of, ast.ClassDef)
    found: dict[str, str] = {}
    for node in of.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            value = node.value
            if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
                value = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), value)
            constant = module.node(value.id) if isinstance(value, ast.Name) else None
            found[node.target.id] = ast.unparse(constant.value if isinstance(constant, ast.Assign) else value)
    return found
