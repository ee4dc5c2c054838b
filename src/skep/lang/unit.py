"""One module being compiled: its programs, and everything they share in the object."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skep.bpf import types as t
from skep.bpf.maps import Map
from skep.bpf.programs import Program, Subprog
from skep.errors import CompileError, SkepError
from skep.lang import given, subprogs
from skep.lang import namespace as ns
from skep.lang.arena import ArenaPointerStorage
from skep.lang.debug import Debug
from skep.lang.globalvars import GlobalVars, quote_bytes
from skep.lang.layout import BoolStorage, IntStorage, Storage
from skep.lang.scope import Scope
from skep.lang.source import SourceFile, advised
from skep.lang.stmts import block
from skep.lang.values import NONE, Value
from skep.lang.walk import Walker

if TYPE_CHECKING:
    from skep.lang.maps import Maps
    from skep.lang.tracepoints import Choice

_HEADER = """\
target datalayout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
target triple = "bpf"
"""
#: "no-builtins": a loop that sets memory must not become a call of memset, which no program can make
_ATTRIBUTES = (
    'attributes #0 = { nounwind "no-builtins" }\nattributes #1 = { noinline nounwind "no-builtins" }'
)

#: a name in BTF and the zero byte after it (KSYM_NAME_LEN before Linux 6.1)
_LONGEST = 127


class Unit:
    """Collects what becomes one object. ``target`` is "bpf", or "host" for native code of plain functions."""

    def __init__(
        self, path: str, text: str, *, cpu: str = "v3", target: str = "bpf", taken: Iterable[str] = ()
    ) -> None:
        self.target = target
        self.cpu = cpu
        self.sources = {path: SourceFile(path, text)}
        self.di = Debug(path, text)
        self.namespace = ns.Namespace(self._kernel_storage)
        self.globals = GlobalVars(self)
        #: global variables and constants, as text
        self.top: list[str] = []
        self.functions: list[str] = []
        self._declared: dict[str, None] = {}
        self._constants: dict[bytes, str] = {}
        self._symbols: set[str] = set()
        self._subprogs: dict[int, subprogs.Made] = {}
        self._numbers: dict[str, int] | None = None
        self._maps: Maps | None = None
        #: subprograms that are being compiled, outermost first
        self.compiling: list[Subprog] = []
        #: programs that something refers to, beside those asked for
        self.more_programs: list[Program] = []
        #: names that functions of the object have or will have
        self._taken: set[str] = set(taken)
        #: functions that the kernel calls, by function and kind of arguments
        self.callbacks: dict[tuple[int, tuple[str, ...]], str] = {}
        #: what tracepoint programs became, and why
        self.choices: dict[str, Choice] = {}
        #: the symbol of the arena
        self.arena: str | None = None
        #: the cgroup storage that a program uses, by program and kind of map
        self.cgroup_storages: dict[tuple[Program | None, str], str] = {}
        #: CO-RE structs and the kernel's types: `skep.lang.core`, `skep.lang.kernel_types`
        self.core: Any = None
        #: what the object's license will be; None: not said, anything goes
        self.license_text: str | None = None
        self.types: Any = None

    # --- names --------------------------------------------------------------------------------------

    def symbol(self, name: str) -> str:
        """``name`` as a symbol of the object. Raises SkepError when another thing is called so."""
        if len(name) > _LONGEST:
            raise SkepError(f"{name[:32]!r}...: kernels take names of {_LONGEST} bytes")
        if not name.isascii():
            raise SkepError(f"{name!r}: kernels take names of ASCII letters, digits and _ only")
        if name in self._symbols:
            raise SkepError(f"two things are called {name!r} in one object")
        self._symbols.add(name)
        return name

    def function_symbol(self, name: str, file: SourceFile, tree: ast.AST) -> str:
        """`symbol` of a function; refuses at its definition."""
        try:
            return self.symbol(name)
        except SkepError as error:
            hint = "rename one" if name in self._symbols else "rename it"
            raise file.error(tree, str(error), hint) from None

    def declare(self, line: str) -> None:
        """A line of IR at the top, once."""
        self._declared[line] = None

    def kfunc(self, ret: str, name: str, result: str, params: list[tuple[str, str]]) -> None:
        """Declare a kernel function; ``result`` and the parameters are debug types."""
        if name in self._symbols:
            return
        self._symbols.add(name)
        pointers = ["pointer_type" in self.di.nodes[int(kind[1:])] for _, kind in params]
        types = ", ".join("ptr" if pointer else "i32" for pointer in pointers)
        debug = self.di.extern(name, result, params)
        self.declare(f'declare !dbg {debug} {ret} @{name}({types}) section ".ksyms"')

    def constant(self, data: bytes) -> str:
        """The address of constant bytes."""
        known = self._constants.get(data)
        if known is None:
            known = self._constants[data] = f"@.c{len(self._constants)}"
            self.top.append(f"{known} = private constant [{len(data)} x i8] c{quote_bytes(data)}, align 8")
        return known

    def lost_counter(self, name: str) -> str:
        """The symbol of the global variable that counts what could not be stored in map ``name``."""
        symbol = f"{name}_lost".replace("[...]", "")
        if symbol not in self._symbols:
            self._symbols.add(symbol)
            kind = self.di.integer(t.u64)
            var = self.di.variable(symbol, 1, kind)
            self.top.append(f'@{symbol} = global i64 0, section ".bss", align 8, !dbg {var}')
        return symbol

    def zero_variable(self, symbol: str) -> str:
        """The address of a global variable that is 0, which only we know."""
        if symbol not in self._symbols:
            self._symbols.add(symbol)
            var = self.di.variable(symbol, 1, self.di.integer(t.u64))
            self.top.append(f'@{symbol} = global i64 0, section ".bss", align 8, !dbg {var}')
        return f"@{symbol}"

    def wanted(self, program: Program) -> None:
        """A program that a map refers to has to be in the object."""
        self.more_programs.append(program)

    def helper_number(self, name: str) -> int:
        if self._numbers is None:
            from skep.uapi.helpers import helpers

            self._numbers = {helper.name: number for number, helper in helpers().items()}
        return self._numbers[name]

    @property
    def maps(self) -> Maps:
        if self._maps is None:
            from skep.lang.maps import Maps

            self._maps = Maps(self)
        return self._maps

    # --- sources ------------------------------------------------------------------------------------

    def source(self, fn: Any) -> SourceFile:
        """The file a function was defined in."""
        path = fn.__code__.co_filename
        known = self.sources.get(path)
        if known is None:
            known = self.sources[path] = SourceFile.read(path)
        return known

    def file_node(self, file: SourceFile) -> str:
        return self.di.file(file.path, file.text)

    # --- types --------------------------------------------------------------------------------------

    def _kernel_storage(self, record: Any) -> Storage | None:
        from skep.lang import pointers

        if isinstance(record, t.ListHead):
            from skep.lang import graphs

            return graphs.storage(self, record)
        if not isinstance(record, t.Kptr):
            return pointers.storage(self, record)
        if not isinstance(record.of, t.Named):
            from skep.lang import owned

            return owned.storage(self, record)
        of = pointers.storage(self, record.of)
        if not isinstance(of, pointers.KernelPointerStorage):
            return None
        from skep.lang.kptrs import KptrStorage

        return KptrStorage(self, of.kind)

    def storage(self, record: Any, c: Walker, node: ast.AST) -> Storage:
        """The storage of a type record or class; refuses at ``node`` what is no type."""
        try:
            return self.namespace.storage(record)
        except SkepError as error:
            sizes = "u8 to u64, bpf.char(n), bpf.array(T, n) and structs have one"
            raise c.error(node, *advised(str(error), sizes)) from None

    def is_type(self, obj: Any) -> bool:
        """Whether ``obj`` is a type record that makes memory: an array, a text, a kernel's object."""
        return isinstance(obj, (t.ArrayType, t.CharType, t.BytesType, t.KernelStruct))

    def annotation(self, scope: Scope, name: str) -> Any:
        return ns.annotation(scope, name)

    def allows_none(self, annotation: Any) -> bool:
        return ns.unwrap(annotation)[1]

    def parameter_storage(self, annotation: Any) -> Storage | None:
        """The storage of a parameter's annotation; None for kernel types, contexts and no annotation."""
        record, _ = ns.unwrap(annotation)
        if record is None or isinstance(record, (t.Named, t.ArenaPtr)):
            return None
        try:
            return self.namespace.storage(record)
        except SkepError:
            return None

    def local_annotation(self, c: Walker, node: ast.expr) -> Storage | None:
        """The storage of a local's annotation; None where the value alone says it (bytes, list)."""
        record, _ = ns.unwrap(ns.evaluate(c.scope, node))
        plain = getattr(record, "__origin__", record)
        if record is None or plain in (bytes, str, list, tuple) or isinstance(record, (t.Named, t.ArenaPtr)):
            return None
        return self.storage(record, c, node)

    def convert(self, c: Walker, value: Value, storage: Storage, node: ast.AST) -> Value:
        """``value`` as a variable of scalar type ``storage`` would hold it."""
        if isinstance(storage, BoolStorage):
            return c.truth(value, node)
        if isinstance(storage, IntStorage) and c.is_number(value):
            return storage.wrap(c, value, node)
        return value

    # --- globals ------------------------------------------------------------------------------------

    def read_global(self, c: Walker, obj: Any, name: str, node: ast.AST) -> Value:
        return self.globals.read(c, obj, name, node)

    def set_global(self, c: Walker, name: str, value: Value, node: ast.AST) -> None:
        self.globals.write(c, name, value, node)

    def add_global(self, c: Walker, name: str, op: ast.operator, node: ast.AugAssign) -> bool:
        return self.globals.add(c, name, op, node)

    # --- functions ----------------------------------------------------------------------------------

    def call_subprog(
        self, c: Walker, obj: Subprog, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        return subprogs.call(c, obj, args, kwargs, node)

    def callback(self, c: Walker, value: Value, node: ast.AST) -> str:
        """The operand of a function that a helper will call."""
        from skep.lang import callbacks

        return callbacks.callback(c, value, node)

    def subprog(self, obj: Subprog) -> subprogs.Made | None:
        return self._subprogs.get(id(obj))

    @property
    def has_subprogs(self) -> bool:
        """Whether a function calls another."""
        return bool(self._subprogs)

    def keep_subprog(self, obj: Subprog, made: subprogs.Made) -> None:
        self._subprogs[id(obj)] = made

    def result_operand(self, c: Walker, value: Value, node: ast.AST) -> str:
        """``value`` as the function being compiled returns it."""
        scope = c.scope
        if scope.result == "void":
            return "void"
        if scope.result == "ptr":
            return subprogs.pointer_result(c, value, node)
        if isinstance(scope.result_storage, ArenaPointerStorage):
            return f"{scope.result} {scope.result_storage.as_number(c, value, node)}"
        if value.type is NONE:
            if scope.optional_result:
                return f"{scope.result} 0"
            raise c.error(
                node, f"{scope.fn.__name__}() may end without a value", "return a number on every path"
            )
        number = c.as_int(value, node, "as a result")
        if (
            scope.verdicts is not None
            and not scope.verdicts[0] <= number.lo <= number.hi <= scope.verdicts[1]
        ):
            if scope.verdicts == (0, 0):
                raise c.error(node, "a function that a timer or work queue calls gives 0 back", "return 0")
            raise c.error(
                node,
                f"a function that the kernel calls gives {scope.verdicts[0]} or {scope.verdicts[1]} back",
                "return True to stop, False to go on (-> bool)",
            )
        if scope.hook_verdicts is not None:
            low, high = scope.hook_verdicts
            if not low <= number.lo <= number.hi <= high:
                raise c.error(
                    node,
                    f"a program of this type returns {low}" + (f" to {high}" if high > low else ""),
                    "return 0 to allow, or a negative error: -1 is EPERM"
                    if low < 0
                    else f"return {high} if ... else {low}"
                    if high > low
                    else f"return {low}",
                )
        if scope.result_storage is not None:
            number = self.convert(c, number, scope.result_storage, node)
            number = c.as_int(number, node)
        if scope.result == "i32":
            if number.const is not None:
                return f"i32 {IntStorage(t.s32).record(number.const)}"
            return f"i32 {c.em.op(f'trunc i64 {number.ir} to i32')}"
        return f"{scope.result} {number.ir}"

    def program(self, program: Program) -> None:
        """Compile one program."""
        from skep.lang import contexts
        from skep.uapi.enums import ProgType

        fn = program.fn
        file = self.source(fn)
        tree = file.function(fn)
        name = self.function_symbol(fn.__name__, file, tree)
        probe = Scope(fn, tree, file, "", "")
        params: list[tuple[str, Any, ast.AST]] = [
            (a.arg, ns.annotation(probe, a.arg), a) for a in [*tree.args.posonlyargs, *tree.args.args]
        ]
        program = self._effective(program, file, params)
        c = Walker(self, program)
        result = self.di.base("int", 32, "signed")
        ctx = self.di.pointer("null")
        if c.section is not None and c.section.type == ProgType.SYSCALL and len(params) == 1:
            given_type = getattr(params[0][1], "__bpf__", None) and self.namespace.storage(params[0][1])
            ctx = self.di.pointer(given_type.describe(self.di)) if given_type else ctx
        debug = self.di.subprogram(name, self.file_node(file), tree.lineno, result, [("ctx", ctx)])
        scope = Scope(fn, tree, file, "", debug)
        scope.result = "i32"
        scope.optional_result = ns.annotation(scope, "return") is None
        scope.hook_verdicts = self._verdicts(c, tree)
        c.scopes.append(scope)
        gives = ns.annotation(probe, "return")
        if gives in (str, bytes, float, list, tuple, dict) and tree.returns is not None:
            raise c.error(tree.returns, f"a program returns a number, no {gives.__name__}", "-> int")
        c.ctx = "%ctx"
        c.at(tree, force=True)
        args = tree.args
        if args.vararg or args.kwarg or args.kwonlyargs:
            raise file.error(
                tree, "a program takes positional parameters only", "leave *, ** and what follows * out"
            )
        for (key, _, node), value in zip(params, contexts.arguments(c, program, params), strict=True):
            c.bind(key, value, node)
        self.body(c, tree)
        given.finish(c)
        section = self.section(program.section)
        self.functions.append(
            f'define i32 @{name}(ptr %ctx) #0 section "{section}" !dbg {debug} {{\n{c.em.text()}\n}}'
        )

    def _effective(
        self, program: Program, file: SourceFile, params: list[tuple[str, Any, ast.AST]]
    ) -> Program:
        """The program as it is compiled: for a tracepoint, of the cheapest type."""
        from skep.lang import tracepoints

        if tracepoints.split(program) is None:
            return program

        def types() -> Any:
            if self.types is None:
                self.types = tracepoints.types_here()
            return self.types

        choice = tracepoints.choose(types, file, program, params)
        if choice is not None:
            self.choices[program.__name__] = choice
        return tracepoints.effective(program, choice)

    def _verdicts(self, c: Walker, node: ast.AST) -> tuple[int, int] | None:
        """What a program of this type may return on Linux 6.18; None: anything, or what the hook says."""
        from types import SimpleNamespace

        from skep.uapi.enums import AttachType, ProgType
        from skep.verifier.facts import returns

        section = c.section
        if section is None or section.type in (ProgType.STRUCT_OPS, ProgType.EXT):
            return None
        if section.type == ProgType.LSM:
            from skep.lang.kernel_types import types_of

            hook = f"bpf_lsm_{section.rest}"
            found = types_of(c, node).function(hook) if section.rest else None
            nothing = found is not None and not found[1].size
            if section.attach_type == AttachType.LSM_CGROUP:
                return (1, 1) if nothing else (0, 1)
            return None if nothing or found is None else returns.of_lsm_hook(hook)
        subject: Any = SimpleNamespace(prog_type=section.type, attach_type=section.attach_type or 0)
        limits = returns.return_range(subject)
        return (limits.low, limits.high) if limits is not None else None

    def section(self, name: str) -> str:
        """A section's name as LLVM takes it: see `sections`."""
        from skep.lang.sections import marked

        if name not in self._taken:
            return name
        return marked(name)

    def body(self, c: Walker, tree: ast.FunctionDef) -> None:
        """Walk a whole function that is not inlined."""
        from skep.lang.stmts import give_back

        block(c, tree.body)
        if c.live:
            give_back(c, c.none(), tree)

    # --- the whole ----------------------------------------------------------------------------------

    def license(self, text: str) -> None:
        data = text.encode() + b"\0"
        var = self.di.variable(
            "_license", 1, self.di.array(self.di.base("char", 8, "signed_char"), len(data) * 8, len(data))
        )
        text = f'[{len(data)} x i8] c{quote_bytes(data)}, section "license", align 1, !dbg {var}'
        self.top.append(f"@_license = global {text}")

    def module_globals(self, namespace: dict[str, Any]) -> None:
        """Every map and global variable that a module declares, used or not."""
        from skep.bpf.globals import Global

        for name, obj in list(namespace.items()):
            try:
                if isinstance(obj, Map):
                    self.maps.symbol(obj, name)
                elif isinstance(obj, Global):
                    self.globals.define(obj, name, namespace)
            except SkepError as error:
                if isinstance(error, CompileError):
                    raise
                raise self._declaration_error(namespace, name, str(error)) from None

    def _declaration_error(self, namespace: dict[str, Any], name: str, reason: str) -> CompileError:
        """The error about a map or variable, at the line that declares it."""
        path = namespace.get("__file__") or next(iter(self.sources))
        try:
            file = self.sources.get(path) or SourceFile.read(path)
        except CompileError:
            return CompileError(reason, file=path)
        node = file.declaration(name)
        hint = "rename one" if reason.startswith("two things") else "mend the declaration"
        if reason.endswith("in memory"):
            hint = "u8 to u64, bpf.char(n), bpf.array(T, n) and structs have one"
        reason, hint = advised(reason, hint)
        return CompileError(reason, file=path, hint=hint) if node is None else file.error(node, reason, hint)

    def text(self) -> str:
        """The module's IR."""
        if self.core is not None:
            self.core.finish()
        if self.target == "host":
            parts = [*self._declared, *self.top, *self.functions, "attributes #0 = { nounwind }"]
            return "\n".join(parts) + "\n"
        parts = [_HEADER, *self._declared, *self.top, *self.functions, _ATTRIBUTES, self.di.text()]
        return "\n".join(parts) + "\n"
