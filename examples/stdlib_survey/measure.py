"""What one source file consists of. Pure: bytes in, numbers out."""

from __future__ import annotations

import ast
import zlib
from typing import TypedDict

__all__ = ["Measurement", "measure"]

#: Where the flow of control may take one of several ways.
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)


class Measurement(TypedDict):
    """The numbers of one file."""

    lines: int
    functions: int
    classes: int
    #: Places where the flow of control may take one of several ways.
    branches: int
    #: Bytes that zlib makes of it.
    compressed: int
    #: Names of the top-level modules it imports, sorted.
    imports: list[str]


def measure(source: bytes, name: str) -> Measurement:
    """Parse and measure a source file.

    Raises:
        SyntaxError: If it does not parse.
        ValueError: If it holds null bytes.
    """
    functions = classes = branches = 0
    imports: set[str] = set()
    for node in ast.walk(ast.parse(source, name)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions += 1
            case ast.ClassDef():
                classes += 1
            case ast.Import(names=names):
                imports.update(alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                imports.add(module.partition(".")[0])
            case ast.BoolOp(values=values):
                branches += len(values) - 1
            case _ if isinstance(node, _BRANCHES):
                branches += 1
    return Measurement(
        lines=len(source.splitlines()),
        functions=functions,
        classes=classes,
        branches=branches,
        compressed=len(zlib.compress(source)),
        imports=sorted(imports),
    )
