"""Source files: parsed once, functions found in them, spans for errors."""

from __future__ import annotations

import ast
from typing import Any

from skep.errors import CompileError


def advised(text: str, otherwise: str) -> tuple[str, str]:
    """(reason, what to write instead) of a declaration's error, whose text may have both."""
    import re

    found = re.match(
        r"(.*?): ((?:say|write|use|give|it is|programs have|fields cannot|did you mean)\b.*)", text
    )
    return (found[1], found[2]) if found else (text, otherwise)


class SourceFile:
    """One Python file: its text and, when first asked, its tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.lines = text.splitlines()
        self._functions: dict[tuple[str, int], ast.FunctionDef] | None = None
        self._asyncs: dict[tuple[str, int], ast.AST] = {}

    @classmethod
    def read(cls, path: str) -> SourceFile:
        """The file at ``path``, or what a shell or notebook keeps under that name."""
        try:
            with open(path, "rb") as file:
                data = file.read()
            text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except (OSError, UnicodeDecodeError) as error:
            import linecache  # knows other encodings, and what shells and notebooks keep under a made-up name

            linecache.checkcache(path)
            text = "".join(linecache.getlines(path))
            if not text and isinstance(error, UnicodeDecodeError):
                line = data[: error.start].count(b"\n") + 1
                shown = data.decode("utf-8", "replace")
                column = len(
                    data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")
                )
                raise CompileError(
                    f"byte {data[error.start]:#04x} is no UTF-8",
                    file=path,
                    source=shown,
                    line=line,
                    column=column,
                    hint="save the file as UTF-8, or say what it is: # -*- coding: latin-1 -*-",
                ) from None
        if not text:
            raise CompileError(
                "the source of the program cannot be read", file=path, hint="write the program in a file"
            )
        return cls(path, text)

    @property
    def functions(self) -> dict[tuple[str, int], ast.FunctionDef]:
        """Functions by name and first line (that of the first decorator)."""
        if self._functions is None:
            try:
                tree = ast.parse(self.text, self.path)
            except SyntaxError as error:
                raise CompileError(
                    f"not Python: {error.msg}", file=self.path, source=self.text, line=error.lineno or 1
                ) from None
            self._functions = {}
            waiting: list[ast.AST] = [tree]
            for node in waiting:  # grows: statements only, expressions hold no functions
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    if isinstance(node, ast.FunctionDef):
                        self._functions[node.name, first] = node
                    else:
                        self._asyncs[node.name, first] = node
                for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                    inner = getattr(node, part, None)
                    if isinstance(inner, list):
                        waiting += inner
        return self._functions

    def function(self, fn: Any) -> ast.FunctionDef:
        """The tree of a Python function defined in this file."""
        code = fn.__code__
        found = self.functions.get((code.co_name, code.co_firstlineno))
        if found is None:
            other = self._asyncs.get((code.co_name, code.co_firstlineno))
            if other is not None:
                raise self.error(
                    other, f"{code.co_name}() is async, and programs run to their end", "define it with def"
                )
            line = min(code.co_firstlineno, max(1, len(self.lines)))
            text = self.lines[line - 1] if self.lines else ""
            anonymous = code.co_name == "<lambda>"
            raise CompileError(
                "a lambda is no program"
                if anonymous
                else f"{code.co_name}() is not a function of this file as it is now",
                file=self.path,
                source=self.text,
                line=line,
                column=len(text) - len(text.lstrip()),
                end_column=len(text),
                hint="define it with def"
                if anonymous
                else "programs are written with def; was the file changed since it was imported?",
            )
        return found

    def declaration(self, name: str) -> ast.stmt | None:
        """The statement of the module that assigns ``name``, None when there is none that plainly does."""
        try:
            body = ast.parse(self.text, self.path).body
        except SyntaxError:
            return None
        for node in body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node
        return None

    def column(self, line: int, offset: int) -> int:
        """Characters before byte ``offset`` of a line: what `ast` counts are UTF-8 bytes."""
        if not 0 < line <= len(self.lines):
            return offset
        text = self.lines[line - 1]
        return offset if text.isascii() else len(text.encode()[:offset].decode("utf-8", "ignore"))

    def error(self, node: ast.AST, reason: str, hint: str = "") -> CompileError:
        """A CompileError that points at ``node``."""
        line = getattr(node, "lineno", 1)
        start = self.column(line, getattr(node, "col_offset", 0))
        end_line = getattr(node, "end_lineno", line)
        if end_line == line:
            end = self.column(line, getattr(node, "end_col_offset", start + 1) or start + 1)
        else:
            end = len(self.lines[line - 1]) if line <= len(self.lines) else start + 1
        return CompileError(
            reason,
            file=self.path,
            source=self.text,
            line=line,
            column=start,
            end_column=end,
            hint=hint or None,
        )
