"""What a maker is given, and how makers read code: as text, so that no extra has to be installed and nothing has to run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Module", "Source", "public_modules", "sentence"]


@dataclass(frozen=True)
class Source:
    """This is one place of a page that is to be filled."""

    root: Path
    """The repository."""
    about: str
    """What the mark says after the maker's name."""
    instead: str
    """What stands there for those who read the file itself."""


@dataclass(frozen=True)
class Module:
    """This is a module of docket, read and not run."""

    name: str
    path: Path
    tree: ast.Module

    @staticmethod
    def read(root: Path, name: str) -> Module:
        """This reads a module by its dotted name."""
        return _read(root, name)

    @property
    def public(self) -> list[str]:
        """This gives the names in `__all__`."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id == "__all__" and node.value is not None:
                    return [str(name) for name in ast.literal_eval(node.value)]
        return []

    def doc(self) -> str:
        """This gives the docstring of the module."""
        return ast.get_docstring(self.tree) or ""

    def node(self, name: str) -> ast.stmt | None:
        """This finds what a module defines or imports under a name, also behind `if TYPE_CHECKING` and `try`."""
        for node in self._statements():
            if (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name) or (
                isinstance(node, ast.Import | ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names)
            ):
                return node
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node
        return None

    def doc_of(self, name: str) -> str:
        """This gives the docstring of what a module defines: of a function (which may be overloaded) or class, or the string that stands behind a value."""
        for node in self._statements():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name and (found := ast.get_docstring(node)):
                return found
        body, node = self._statements(), self.node(name)
        if node in body[:-1]:
            after = body[body.index(node) + 1]
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                return after.value.value
        return ""

    def _statements(self) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for node in self.tree.body:
            found += [*node.body, *node.orelse] if isinstance(node, ast.If | ast.Try) else [node]
        return found


@cache
def _read(root: Path, name: str) -> Module:
    base = root / Path(*name.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return Module(name, path, ast.parse(path.read_text(encoding="utf-8")))


def origin(root: Path, module: str, name: str) -> tuple[str, str]:
    """This follows imports to where a public name is defined: its module and its name there."""
    node = Module.read(root, module).node(name)
    if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.partition(".")[0] == "docket":
        told = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        inside = root / Path(*node.module.split("."), told)
        if inside.is_dir() or inside.with_suffix(".py").exists():
            return f"{node.module}.{told}", ""
        return origin(root, node.module, told)
    return module, name


def public_modules(root: Path) -> list[str]:
    """This names every module without an underscore in its dotted name, the package first."""
    found: list[str] = []
    for path in sorted((root / "docket").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts) and "lua" not in parts:
            found.append(".".join(parts))
    return sorted(found)


def sentence(doc: str) -> str:
    """This is the first paragraph of a docstring, in one line."""
    return " ".join(doc.strip().split("\n\n")[0].split())
