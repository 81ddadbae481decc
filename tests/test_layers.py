"""The layers of the package hold: imports point down, late ones stand where they may, and only `_redis` knows redis-py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "docket"

# From the words at the bottom to the edges at the top. A module may import its own layer and those below.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "_durations",
            "_instructions",
            "_json",
            "_keys",
            "_literals",
            "_loading",
            "_messages",
            "_moments",
            "_options",
            "_payloads",
            "_reasons",
            "_signatures",
            "_signing",
            "_uuid7",
            "_version",
            "annotations",
            "errors",
            "serializers",
            "states",
        }
    ),
    frozenset({"_clock", "_logging", "_redis", "_stopping", "_tally", "_threads", "instrumentation", "lua"}),
    frozenset({"_store"}),
    frozenset(
        {
            "_changes",
            "_context",
            "_dead",
            "_ending",
            "_events",
            "_listing",
            "_matching",
            "_progress",
            "_results",
            "_snapshot",
            "_sync",
            "_task",
            "_watching",
            "_when",
            "agenda",
            "execution",
            "strikelist",
        }
    ),
    frozenset({"dependencies"}),
    frozenset({"_collections", "_operations", "_registry", "_scheduling", "_sessions", "docket", "tasks"}),
    frozenset({"_worker", "worker"}),
    frozenset({"__init__", "__main__", "cli", "integrations", "testing"}),
)
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}

# Where an import may stand inside a function: the heavy edges, and the lazily loaded public names.
LATE_IMPORTS_IN = ("docket._redis", "docket.cli", "docket.testing.plugin", "docket.__init__")
# What may be imported late anywhere.
LATE_IMPORTS_OF = (
    "annotationlib",  # Python 3.14 and up
    "anyio",  # `from_thread`, of all of it, which takes milliseconds and is seldom needed
    "docket._logging",  # brings structlog, and so rich: a quarter of a command's start-up time, for lines that only workers write
    "http.server",  # heavy, and used only where metrics or health are served
    "opentelemetry.exporter",  # optional extra
    "opentelemetry.sdk",  # optional extra
    "prometheus_client",  # optional extra
    "uvloop",  # optional extra
)
# Foreign libraries that one part alone may know.
KNOWN_ONLY_TO = {"redis": "docket._redis", "hiredis": "docket._redis", "burner_redis": "docket._redis"}


@dataclass(frozen=True)
class Import:
    """This is one module that another imports: where, and whether inside a function."""

    importer: str
    imported: str
    line: int
    is_late: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def is_or_is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def part_of(module: str) -> str:
    """This is the word that stands in `LAYERS` for a module of the package."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] or "__init__"


def layer_of(module: str, otherwise: int) -> int:
    return LAYER_OF.get(part_of(module), otherwise)


def name_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    parts = relative.parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def is_for_type_checkers(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING")


def imports_of(importer: str, source: str, modules: frozenset[str]) -> Iterator[Import]:
    """This walks every import of a module that is carried out at run time."""

    def names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        assert node.level == 0 and node.module is not None, f"{importer}:{node.lineno}: a relative import"
        for alias in node.names:
            member = f"{node.module}.{alias.name}"
            yield member if member in modules else node.module

    def walk(node: ast.AST, *, is_late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from (Import(importer, name, child.lineno, is_late) for name in dict.fromkeys(names(child)))
            elif is_for_type_checkers(child):
                assert isinstance(child, ast.If)
                for other in child.orelse:
                    yield from walk(ast.Module([other], []), is_late=is_late)
            else:
                yield from walk(child, is_late=is_late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from walk(ast.parse(source), is_late=False)


def pointing_up(imports: list[Import]) -> list[Import]:
    """A module without a layer has a test of its own."""
    return [each for each in imports if is_or_is_in(each.imported, "docket") and layer_of(each.imported, 0) > layer_of(each.importer, len(LAYERS))]


def late_without_leave(imports: list[Import]) -> list[Import]:
    return [
        each
        for each in imports
        if each.is_late
        and not any(is_or_is_in(each.importer, place) for place in LATE_IMPORTS_IN)
        and not any(is_or_is_in(each.imported, library) for library in LATE_IMPORTS_OF)
    ]


def known_to_strangers(imports: list[Import]) -> list[Import]:
    return [
        each for each in imports for library, owner in KNOWN_ONLY_TO.items() if is_or_is_in(each.imported, library) and not is_or_is_in(each.importer, owner)
    ]


def import_circle(imports: list[Import]) -> list[str]:
    """This is a circle of modules that import each other while they load, if there is one."""
    graph: dict[str, set[str]] = {}
    for each in imports:
        if not each.is_late and each.imported != each.importer and is_or_is_in(each.imported, "docket"):
            graph.setdefault(each.importer, set()).add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return list(circle.args[1])
    return []


def described(imports: list[Import]) -> str:
    return "\n".join(map(str, imports))


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = frozenset(SOURCES)


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [each for name, path in SOURCES.items() for each in imports_of(name, path.read_text(), MODULES)]


def test_every_module_has_a_layer() -> None:
    homeless = sorted({part_of(name) for name in MODULES} - LAYER_OF.keys())

    assert not homeless, f"give these a place in LAYERS: {homeless}"


def test_imports_point_down(imports: list[Import]) -> None:
    up = pointing_up(imports)

    assert not up, described(up)


def test_late_imports_stand_only_at_the_heavy_edges(imports: list[Import]) -> None:
    late = late_without_leave(imports)

    assert not late, described(late)


def test_only_the_redis_layer_knows_redis_libraries(imports: list[Import]) -> None:
    strangers = known_to_strangers(imports)

    assert not strangers, described(strangers)


def test_no_modules_import_each_other_in_a_circle(imports: list[Import]) -> None:
    assert import_circle(imports) == []


# The checks themselves, on sources that break the rules on purpose.


def broken(importer: str, source: str) -> list[Import]:
    return list(imports_of(importer, source, frozenset({"docket.docket", "docket.states", "docket._store", "docket._store.events"})))


@pytest.mark.parametrize(
    "source",
    [
        "from docket._store.events import Events",
        "from docket._store import events",
        "import docket._store",
        "from docket import Docket",
        "def late():\n    from docket.docket import Docket",
        "try:\n    import docket.docket\nexcept ImportError: pass",
    ],
)
def test_an_import_that_points_up_is_found(source: str) -> None:
    assert pointing_up(broken("docket._redis.urls", source))


@pytest.mark.parametrize(
    "source",
    [
        "from docket.states import LIVE",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from docket.docket import Docket",
        "import typing\nif typing.TYPE_CHECKING:\n    from docket.docket import Docket",
        "from __future__ import annotations\nimport redis.asyncio",
    ],
)
def test_an_import_that_may_stand_is_left_alone(source: str) -> None:
    imports = broken("docket._redis.urls", source)

    assert pointing_up(imports) == late_without_leave(imports) == known_to_strangers(imports) == []


def test_a_late_import_without_leave_is_found() -> None:
    source = "async def late():\n    from docket.states import LIVE\n    import uvloop"

    assert [each.imported for each in late_without_leave(broken("docket._store.events", source))] == ["docket.states"]
    assert late_without_leave(broken("docket.cli", source)) == []


def test_a_stranger_to_redis_is_found() -> None:
    assert known_to_strangers(broken("docket._store.events", "from redis.asyncio import Redis"))


def test_a_circle_is_found() -> None:
    one = broken("docket.states", "import docket.docket")
    other = broken("docket.docket", "import docket.states")

    assert import_circle(one + other)
    assert import_circle(one) == []
