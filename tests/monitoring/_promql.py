"""PromQL, taken apart: which metrics and labels an expression uses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import promql_parser

__all__ = ["Use", "use_of"]

OF_BUCKETS = "le"


@dataclass
class Use:
    """This is what one expression uses."""

    metrics: set[str] = field(default_factory=set[str])
    matched: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Labels that selectors look at, each with its metric."""
    grouped: set[str] = field(default_factory=set[str])
    """Labels that are aggregated and joined by."""


def use_of(expression: str) -> Use:
    """This reads an expression. Raises `ValueError` where it is no PromQL."""
    use = Use()

    def visit(node: Any) -> None:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            assert selector.name, f"a selector without a name: {selector.prettify()}"
            use.metrics.add(selector.name)
            use.matched += [(selector.name, matcher.name) for matcher in selector.matchers.matchers]

    tree = promql_parser.parse(expression)
    promql_parser.walk(tree, visit)
    for words in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", tree.prettify()):
        use.grouped |= {label.strip() for label in words.split(",") if label.strip()}
    return use
