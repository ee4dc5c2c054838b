"""Debug metadata: what LLVM makes BTF and line information of.

Metadata nodes are numbered as they are asked for; equal ones are shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skep.bpf.types import IntType as IntRecord
    from skep.lang.aggregates import StructStorage

_C_NAMES = {
    (8, False): ("unsigned char", "unsigned_char"),
    (16, False): ("unsigned short", "unsigned"),
    (32, False): ("unsigned int", "unsigned"),
    (64, False): ("unsigned long long", "unsigned"),
    (8, True): ("signed char", "signed_char"),
    (16, True): ("short", "signed"),
    (32, True): ("int", "signed"),
    (64, True): ("long long", "signed"),
}


def quote(text: str | bytes) -> str:
    """A string as IR writes it, quotes included."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    plain = data.decode("latin-1")
    simple = plain.replace("\n", "")
    if simple.isascii() and simple.isprintable():  # a source file, as a rule
        plain = plain.replace("\\", "\\5C").replace('"', "\\22").replace("\n", "\\0A")
        return f'"{plain}"'
    made = "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data)
    return f'"{made}"'


class Debug:
    """The metadata of one module."""

    def __init__(self, file: str, source: str) -> None:
        self.nodes: list[str] = []
        self._known: dict[str, str] = {}
        self._files: dict[str, str] = {}
        #: pointers into an arena, which structs have to themselves, by what they point to
        self.arena_pointers: dict[str, str] = {}
        self.main = self.file(file, source)
        self.unit = self.distinct(
            f'!DICompileUnit(language: DW_LANG_C11, file: {self.main}, producer: "skep", '
            "isOptimized: true, runtimeVersion: 0, emissionKind: FullDebug, nameTableKind: None)"
        )
        self.empty = self.node("!{}")

    def node(self, text: str) -> str:
        """``!N`` for a node."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = f"!{len(self.nodes)}"
            self.nodes.append(text)
        return known

    def distinct(self, text: str) -> str:
        """``!N`` for a node that is like no other."""
        self.nodes.append(f"distinct {text}")
        return f"!{len(self.nodes) - 1}"

    def reserve(self) -> str:
        """A number for a node that refers to itself; give its text to `define`."""
        self.nodes.append("")
        return f"!{len(self.nodes) - 1}"

    def define(self, number: str, text: str) -> None:
        self.nodes[int(number[1:])] = text

    def text(self) -> str:
        lines = [f"!{i} = {node}" for i, node in enumerate(self.nodes)]
        extra = len(lines)
        lines += [
            f'!{extra} = !{{i32 2, !"Debug Info Version", i32 3}}',
            f'!{extra + 1} = !{{i32 7, !"Dwarf Version", i32 5}}',
            f"!llvm.dbg.cu = !{{{self.unit}}}",
            f"!llvm.module.flags = !{{!{extra}, !{extra + 1}}}",
        ]
        return "\n".join(lines)

    # --- files and functions ---------------------------------------------------------------------

    def file(self, name: str, source: str) -> str:
        known = self._files.get(name)
        if known is None:
            # Without the folder: the object is the same wherever its source lies, which is in it as text.
            base = name.rpartition("/")[2]
            known = self._files[name] = self.node(
                f'!DIFile(filename: {quote(base)}, directory: "", source: {quote(source)})'
            )
        return known

    def subprogram(
        self,
        name: str,
        file: str,
        line: int,
        result: str,
        params: Sequence[tuple[str, str]],
        *,
        local: bool = False,
    ) -> str:
        """A function: ``result`` and the parameters' types are nodes ("null" is void)."""
        types = self.node("!{" + ", ".join([result, *(kind for _, kind in params)]) + "}")
        kind = self.node(f"!DISubroutineType(types: {types})")
        me = self.reserve()
        variables = [
            self.node(
                f"!DILocalVariable(name: {quote(param)}, arg: {i}, scope: {me}, file: {file}, line: {line}, "
                f"type: {of})"
            )
            for i, (param, of) in enumerate(params, 1)
        ]
        kept = self.node("!{" + ", ".join(variables) + "}")
        flags = "DISPFlagLocalToUnit | DISPFlagDefinition" if local else "DISPFlagDefinition"
        self.define(
            me,
            f"distinct !DISubprogram(name: {quote(name)}, scope: {file}, file: {file}, line: {line}, "
            f"type: {kind}, scopeLine: {line}, flags: DIFlagPrototyped, "
            f"spFlags: {flags} | DISPFlagOptimized, unit: {self.unit}, retainedNodes: {kept})",
        )
        return me

    def extern(self, name: str, result: str, params: Sequence[tuple[str, str]]) -> str:
        """The declaration of a function elsewhere (a kfunc)."""
        types = self.node("!{" + ", ".join([result, *(kind for _, kind in params)]) + "}")
        kind = self.node(f"!DISubroutineType(types: {types})")
        return self.node(
            f"!DISubprogram(name: {quote(name)}, scope: {self.main}, file: {self.main}, line: 0, "
            f"type: {kind}, flags: DIFlagPrototyped, spFlags: DISPFlagOptimized)"
        )

    def block(self, scope: str, file: str) -> str:
        """A scope inside ``scope`` whose lines are another file's."""
        return self.node(f"!DILexicalBlockFile(scope: {scope}, file: {file}, discriminator: 0)")

    def location(self, line: int, column: int, scope: str) -> str:
        return self.node(f"!DILocation(line: {line}, column: {column}, scope: {scope})")

    def variable(self, name: str, line: int, kind: str, *, local: bool = False) -> str:
        """What a global's ``!dbg`` names."""
        made = self.distinct(
            f"!DIGlobalVariable(name: {quote(name)}, scope: {self.unit}, file: {self.main}, line: {line}, "
            f"type: {kind}, isLocal: {'true' if local else 'false'}, isDefinition: true)"
        )
        return self.node(f"!DIGlobalVariableExpression(var: {made}, expr: !DIExpression())")

    # --- types -----------------------------------------------------------------------------------

    def base(self, name: str, bits: int, encoding: str) -> str:
        return self.node(f"!DIBasicType(name: {quote(name)}, size: {bits}, encoding: DW_ATE_{encoding})")

    def boolean(self) -> str:
        return self.base("_Bool", 8, "boolean")

    def integer(self, record: IntRecord) -> str:
        name, encoding = _C_NAMES[record.bits, record.signed]
        base = self.base(name, record.bits, encoding)
        alias = record.name
        return self.typedef(alias, base)

    def typedef(self, name: str, of: str) -> str:
        return self.node(f"!DIDerivedType(tag: DW_TAG_typedef, name: {quote(name)}, baseType: {of})")

    def pointer(self, of: str) -> str:
        return self.node(f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: {of}, size: 64)")

    def array(self, of: str, bits: int, count: int) -> str:
        span = self.node(f"!DISubrange(count: {count})")
        elements = self.node(f"!{{{span}}}")
        return self.node(
            f"!DICompositeType(tag: DW_TAG_array_type, baseType: {of}, size: {bits}, elements: {elements})"
        )

    def enum(self, name: str, size: int, signed: bool, members: Iterable[tuple[str, int]]) -> str:
        base = self.base(*(("int", 32, "signed") if signed else ("unsigned int", 32, "unsigned")))
        if size == 8:
            base = self.base(*(("long", 64, "signed") if signed else ("unsigned long", 64, "unsigned")))
        unsigned = "" if signed else ", isUnsigned: true"
        nodes = [self.node(f"!DIEnumerator(name: {quote(n)}, value: {v}{unsigned})") for n, v in members]
        elements = self.node("!{" + ", ".join(nodes) + "}")
        return self.node(
            f"!DICompositeType(tag: DW_TAG_enumeration_type, name: {quote(name)}, baseType: {base}, "
            f"size: {size * 8}, elements: {elements})"
        )

    def struct(
        self,
        name: str,
        size: int,
        fields: Iterable[tuple[str, str, int, int, int]],
        *,
        union: bool = False,
        tags: dict[str, str] | None = None,
    ) -> str:
        """``fields`` are (name, type node, bit offset, bits, storage bit offset of a bit field or -1);
        ``tags`` are declaration tags by field."""
        nodes = []
        for field, of, at, bits, unit in fields:
            extra = f", flags: DIFlagBitField, extraData: i64 {unit}" if unit >= 0 else ""
            if tags and field in tags:
                tag = self.node(f'!{{!"btf_decl_tag", !{quote(tags[field])}}}')
                extra += f", annotations: {self.node(f'!{{{tag}}}')}"
            nodes.append(
                self.node(
                    f"!DIDerivedType(tag: DW_TAG_member, name: {quote(field)}, baseType: {of}, size: {bits}, "
                    f"offset: {at}{extra})"
                )
            )
        elements = self.node("!{" + ", ".join(nodes) + "}")
        tag = "union" if union else "structure"
        named = f"name: {quote(name)}, " if name else ""
        return self.node(
            f"!DICompositeType(tag: DW_TAG_{tag}_type, {named}size: {size * 8}, elements: {elements})"
        )

    def struct_of(self, storage: StructStorage) -> str:
        fields = []
        tags = {}
        for field in storage.fields.values():
            if tag := getattr(field.of, "tag", ""):
                tags[field.name] = tag
            kind = field.of.describe(self)
            if field.width:
                fields.append((field.name, kind, field.offset * 8 + field.bit, field.width, field.offset * 8))
            else:
                fields.append((field.name, kind, field.offset * 8, field.of.size * 8, -1))
        return self.struct(storage.name, storage.size, fields, union=storage.union, tags=tags)
