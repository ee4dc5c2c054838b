"""What to say of each kind of refusal: a label for the source line, and what to write instead.

Every function here takes a `Finding` and gives (label, advice).
"""

from __future__ import annotations

# ruff: noqa: E501 (sentences stay whole)
import re

from skep.explain import story
from skep.explain.states import Value
from skep.explain.trail import Trail


class Finding:
    """A refusal being explained: the message that matched, the register it is about, and its story."""

    __slots__ = ("chapters", "match", "register", "text", "trail")

    def __init__(self, trail: Trail, match: re.Match[str], text: str) -> None:
        self.trail = trail
        self.match = match
        #: all the messages, joined
        self.text = text
        found = match.groupdict().get("reg")
        if found is None:
            named = re.search(r"\bR(\d+)\b", text)
            found = named[1] if named else None
        self.register = int(found) if found is not None else _added(trail, text)
        self.chapters = story.of_register(trail, self.register) if self.register is not None else []

    def held(self) -> Value | None:
        """What the register holds at the refused instruction."""
        if self.register is None:
            return None
        return story.value(self.trail.last, f"R{self.register}", before=True)

    def number(self, name: str, default: int = 0) -> int:
        found = self.match.groupdict().get(name)
        return int(found, 0) if found else default

    def search(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.text)


def _added(trail: Trail, text: str) -> int | None:
    """Of a sum that is refused without naming a register: the one that holds the number."""
    last = trail.last
    sum_ = re.match(r"r(\d+) [+-]= r(\d+)$", last.text) if last is not None else None
    if sum_ is None or not re.search(r"makes .* pointer|math between|unbounded min value", text):
        return None
    for name in (sum_[2], sum_[1]):
        held = story.value(last, f"R{name}", before=True)
        if held is not None and not held.is_pointer:
            return int(name)
    return None


def packet(f: Finding) -> tuple[str, str]:
    off, size = f.number("off"), f.number("size", 1)
    held = f.held()
    reach = (held.integer("r") if held is not None else None) or 0
    if m := f.search(r"\br=(\d+)\)"):
        reach = int(m[1])
    verb = _verb(f)
    if f.search(r"meta") and held is not None and "meta" in held.kind:
        return (
            f"{verb} {size} bytes of metadata at {off}",
            "compare data_meta + length with data before reading it",
        )
    high = story.bounds(held)[1] if held is not None and "var_off" in held.fields else None
    beyond = off + size - reach
    if high and reach and beyond > 0:
        return (
            f"{verb} {_bytes(size)} that end {_bytes(beyond)} beyond what the comparison with data_end covers",
            f"make the comparison {_bytes(beyond)} longer: `if (ptr + {beyond} > data_end) return …;` where it was "
            "`if (ptr > data_end)`; of a struct, `(void *)(header + 1)` is all of it",
        )
    if high:
        return (
            f"{verb} {_bytes(size)} at a variable offset of up to {high} that no comparison with data_end covers",
            "bound the variable part first, then compare the very pointer that is read: "
            f"`if (ptr + {size} > data_end) return …;`; arithmetic after the comparison throws it away",
        )
    known = f"only {_bytes(reach)} {'is' if reach == 1 else 'are'}" if reach else "none is"
    label = f"{verb} {_span(off, size)}, but {known} known to be there"
    if reach:
        return (
            label,
            f"the check that was made covers {_bytes(reach)}; compare data + {off + size} with data_end instead",
        )
    return (
        label,
        f"before it: `if (data + {off + size} > data_end) return …;` (with the same pointer, or a copy of it)",
    )


def null(f: Finding) -> tuple[str, str]:
    kind = f.match.groupdict().get("kind") or ""
    made = f.chapters[0].what if f.chapters else ""
    returned = re.match(r"what (\w+) returned", made)
    who = f"what {returned[1]} returned" if returned else f"r{f.register}"
    what = "may be NULL, and is used without a test"
    if kind.endswith("_null_"):
        return (
            f"this pointer to a kernel object {what}",
            f"{_when(f)}: `if (!{variable_name(f)}) return …;`",
        )
    if "ringbuf_mem" in kind or "alloc_mem" in kind or kind.startswith("mem"):
        name = variable_name(f)
        record = "record" if re.fullmatch(r"r\d+|ptr", name) else name
        return f"{who} {what}", f"no space is no error, {_when(f)}: `if (!{record}) return …;`"
    return f"{who} {what}", f"{_when(f)}: `if (!{variable_name(f)}) return …;`"


def _when(f: Finding) -> str:
    """Where the test of a pointer belongs: at its making, before anything is held that a return would leak."""
    place = f.chapters[0].step.source if f.chapters else None
    return f"test it right after line {place.line}" if place is not None and place.line else "test it first"


def _gone(f: Finding) -> tuple[str, str] | None:
    """What to say of a pointer that a call made worthless, if one did."""
    for chapter in reversed(f.chapters):
        helper = chapter.what.partition(" ")[0]
        if "may move the packet" in chapter.what:
            return (
                f"{helper} made this packet pointer invalid",
                f"after {helper}, read data and data_end from the context again and repeat the comparison",
            )
        if "gave it back" in chapter.what:
            if given_back(f):
                return (
                    f"{helper} has already given this back",
                    "give it back once on each path: leave one of the two out, or return after the first",
                )
            return (
                f"{helper} has already given this memory back",
                f"use it before {helper}, or keep a copy of what you need",
            )
    return None


def given_back(f: Finding) -> bool:
    """Whether what a release is given was released before."""
    last = f.trail.last
    return (
        last is not None
        and story.called(last) in story.RELEASES
        and any("gave it back" in chapter.what for chapter in f.chapters)
    )


def scalar_access(f: Finding) -> tuple[str, str]:
    if (gone := _gone(f)) is not None:
        return gone
    for chapter in reversed(f.chapters):
        what = chapter.what
        if "is lost: a call" in what:
            return (
                "the call before left nothing in this register",
                "keep the value in a local variable across the call",
            )
    made = f.chapters[0].what if f.chapters else ""
    if "bpf_get_current_task returned" in made:
        return (
            f"r{f.register} is the task's address as a number, which programs cannot follow",
            "read its fields with BPF_CORE_READ(task, field) or bpf_probe_read_kernel(); or take the task with "
            "bpf_get_current_task_btf() (Linux 5.11), whose pointer tracing programs can follow directly",
        )
    place = f.chapters[0].step.source if f.chapters else None
    if (
        "of the context" in made
        and place is not None
        and re.search(r"(?:->|\.)data(?:_end|_meta)?\b", place.text)
    ):
        return (
            f"r{f.register} is no packet pointer: this program type's context has another field there",
            "does the section fit the context? XDP programs are called with struct xdp_md, tc programs with "
            "struct __sk_buff: correct SEC(…) or the type of the argument",
        )
    if "of the context" in made or "read from offset" in made:
        return (
            f"r{f.register} is a number read from memory, not a pointer that the verifier knows",
            "follow kernel pointers with bpf_probe_read_kernel() or BPF_CORE_READ(), user pointers with "
            "bpf_probe_read_user(); tp_btf, fentry and LSM programs get pointers that can be followed directly",
        )
    if any("<<=" in c.what or "*=" in c.what or "&=" in c.what for c in f.chapters):
        return (
            "arithmetic turned this pointer into a number",
            "only adding and subtracting keeps a pointer; compute the offset in an integer of its own and add it last",
        )
    return (
        f"r{f.register} is a number here, not a pointer",
        "keep the pointer in a variable of its own; integers cannot be followed",
    )


def length(f: Finding) -> tuple[str, str]:
    held = f.held()
    low, _high = story.bounds(held) if held is not None else (None, None)
    helper = story.called(f.trail.last) if f.trail.last is not None else ""
    to = f"bpf_{helper}" if helper else "the call"
    if f.search("min value is negative") or (low is not None and low < 0):
        return (
            f"the length given to {to} may be negative",
            "use an unsigned variable and bound it just before: `if (len > sizeof(buf)) len = sizeof(buf);`",
        )
    return (
        f"the length given to {to} has no bound",
        "bound it just before the call, with `len &= sizeof(buf) - 1` (a power of two) or "
        "`if (len > sizeof(buf)) return …;`; the compiler may check another register, so keep it in one unsigned variable",
    )


def register(f: Finding) -> tuple[str, str]:
    number = f.register
    for chapter in reversed(f.chapters):
        if "is lost: a call" in chapter.what:
            if chapter.step.source is not None:  # compilers do not keep values there: it never had one
                return (
                    f"what is used here was never set on this path: nothing is in r{number} since the last call",
                    "initialise the variable where it is declared (`= 0`, `= {}`), or on every path that leads here; in "
                    "assembly, keep what must outlast a call in r6 to r9",
                )
            return (
                f"r{number} was overwritten by the call before",
                "calls leave nothing in r1 to r5: keep the value in r6 to r9, in C in a local variable",
            )
    if number == 0:
        return "r0 is never set on this path", "set the return value on every path before `exit`"
    return (
        f"r{number} is used before anything is put into it",
        "initialise the variable on every path that leads here"
        if number != 1
        else "only r1 (the context) and r10 are set at the start",
    )


def stack_uninit(f: Finding) -> tuple[str, str]:
    size = f.number("size")
    off = f.number("off")
    where = f"fp{off:+d}" if off else "the stack"
    return (
        f"{_bytes(size) if size else 'bytes'} at {where} are read before they are written",
        "initialise the whole variable, padding included: `struct key key = {};` or __builtin_memset",
    )


def stack_bounds(f: Finding) -> tuple[str, str]:
    if f.search("variable-offset|variable offset|unbounded"):
        return (
            "the index into this array on the stack is not bounded by its length",
            "bound the index (`if (i >= N) return …;` or `i &= N - 1`), or keep the array in a map value",
        )
    off, size = f.number("off"), _found(f, r"size[ =](\d+)")
    if -512 <= off < 0 < size and off + size > 0:
        reads = f.search("read from stack") is not None
        length = (
            f"up to {_bytes(size)} are {'read from' if reads else 'written into'} a buffer on the stack that "
        )
        if _constant_length(f, size):
            return (
                f"{_bytes(size)} from fp{off:+d} reach beyond the end of the stack, {-off} are there",
                "give the length of the variable that is passed, `sizeof(variable)`: this is "
                f"{_bytes(size + off)} more",
            )
        return (
            f"{length}has room for {-off} at most",
            "bound the length by the buffer: `if (len > sizeof(buf)) len = sizeof(buf);` just before the call, or make "
            "the buffer as large as the mask allows",
        )
    return (
        f"offset {off} is outside of the 512 bytes of stack (r10 -512 to r10 -1)",
        "keep big buffers in a per-CPU array map",
    )


def argument(f: Finding) -> tuple[str, str]:
    groups = f.match.groupdict()
    have, want = groups.get("have") or "", groups.get("want") or ""
    last = f.trail.last
    helper = story.called(last) if last is not None else ""
    number = f.register or 1
    given = f"argument {number} of bpf_{helper}" if helper else f"r{number}"
    if f.search("expects pointer to ctx"):
        return (
            "this global function's first argument is the context, and it is given something else",
            "pass the context itself; compilers leave an argument unset that the function does not use, so use it there, or "
            "make the function static",
        )
    if f.search("Caller passes invalid args"):
        return (
            "what is passed does not fit the global function's arguments",
            "global functions are checked by their types alone: pass what the type says (pointers with as many bytes), tag "
            "arguments (__arg_ctx, __arg_nonnull, __arg_trusted), or make the function static",
        )
    if helper in ("snprintf", "strncmp") and want.startswith("map_value") and have == "fp":
        return (
            f"{given} is on the stack, and must be a constant text",
            "declare it `static const char text[] = …;`, which puts it into .rodata",
        )
    if have.endswith("_or_null"):
        return f"{given} may be NULL", f"test it first: `if (!{variable_name(f)}) return …;`"
    if have in ("inv", "scalar") and (gone := _gone(f)) is not None:
        return gone
    if have in ("inv", "scalar"):
        return (
            f"{given} is a number, and {_wanted(want)} is needed",
            "pass the map's address (`&map`)"
            if want == "map_ptr"
            else "pass the address of a variable (`&key`), not its value"
            if "fp" in want
            else "pass the pointer itself, not a number made from it",
        )
    return (
        f"{given} is {_kind(have)}, and {_wanted(want)} is needed",
        "see the helper's prototype: `skep feature probe`, or bpf-helpers(7)",
    )


def alignment(f: Finding) -> tuple[str, str]:
    size = f.number("size", 8)
    return (
        f"{_bytes(size)} at an offset that is not a multiple of {size}",
        "keep the natural alignment of the type, or read the bytes one by one (a packed struct makes the compiler do so)",
    )


def context(f: Finding) -> tuple[str, str]:
    off, size = f.number("off"), f.number("size", 4)
    if f.search("dereference of modified ctx"):
        return (
            "the context pointer was changed before it was used",
            "read context fields through the pointer the program was called with, at constant offsets; where the compiler did "
            "this, copy the fields into variables first (and hold them there with barrier_var())",
        )
    written = f.trail.last is not None and f.trail.last.text.startswith("*(")
    verb = "written" if written else "read"
    place = f.trail.last.source if f.trail.last is not None else None
    if not written and off in (76, 80, 140) and place is not None and "data" in place.text:
        return (
            f"programs of this type have no direct access to the packet at offset {off} of their context",
            "does the section fit the context (XDP: struct xdp_md, tc: struct __sk_buff)? Where there is no direct access, "
            "read with bpf_skb_load_bytes(), or through a dynptr (bpf_dynptr_from_skb)",
        )
    return (
        f"offset {off} of the context cannot be {verb} with {_bytes(size)} in a program of this type",
        "use the fields that this program type has, in their own size"
        + (" (most are read-only)" if written else "; 64-bit reads of 32-bit fields are refused"),
    )


def helper(f: Finding) -> tuple[str, str]:
    name = f.match.groupdict().get("name") or "this helper"
    _, _, number = name.partition("#")
    kinds = _callers(int(number)) if number.isdigit() else []
    if kinds:
        others = "" if len(kinds) <= _MOST_KINDS else f" and {len(kinds) - _MOST_KINDS} more types"
        return (
            f"{name} is not for programs of this type, or not in this kernel",
            f"{', '.join(kinds[:_MOST_KINDS])}{others} may call it; `skep feature probe` lists the helpers that this kernel has",
        )
    return (
        f"{name} is not for programs of this type, or not in this kernel",
        "`skep feature probe` lists the helpers of each program type; the first kernel that has it may be newer than this one",
    )


_MOST_KINDS = 8


def _callers(number: int) -> list[str]:
    """The program types that may call a helper, and the first Linux of each."""
    from skep.uapi.availability import first
    from skep.uapi.enums import ProgType

    found = [(kind.name.lower(), first(kind, number)) for kind in ProgType]
    return [
        f"{name} (Linux {at[0]}.{at[1]})" if at > (5, 10) else name for name, at in found if at is not None
    ]


def gpl(f: Finding) -> tuple[str, str]:
    return (
        "the kernel's objects are for programs under a GPL-compatible licence"
        if f.search("Cannot access kernel")
        else "this helper is for programs under a GPL-compatible licence",
        'declare it: `char LICENSE[] SEC("license") = "GPL";` (in Python, `license = "GPL"`)',
    )


def complex(f: Finding) -> tuple[str, str]:
    return (
        "the verifier gave up: too many paths, or a loop walked round too often",
        "use bpf_loop() or bpf_for() for long loops (their body is verified once), bound loops with constants, split the "
        "program with global functions (verified apart) or tail calls, and take branches out of loops",
    )


def endless(f: Finding) -> tuple[str, str]:
    return (
        "nothing in this loop brings it nearer to its end",
        "give it a bound that the verifier sees: `for (i = 0; i < 100; i++)`, bpf_loop() or bpf_for(); before Linux 5.3 "
        "loops must be unrolled",
    )


def backedge(f: Finding) -> tuple[str, str]:
    return (
        "this jumps back, and the kernel takes no loops here",
        "unroll it (`#pragma unroll`), or use Linux 5.3 or later",
    )


def leak(f: Finding) -> tuple[str, str]:
    made = f.number("pc", -1)
    what = "the reference"
    for step in f.trail.path():
        if step.pc == made and story.called(step):
            what = f"what bpf_{story.called(step)} gave at insn {made}"
            f.chapters = [story.Chapter(step, f"bpf_{story.called(step)} gives a reference")]
    give = {
        "ringbuf_reserve": "bpf_ringbuf_submit() or bpf_ringbuf_discard()",
        "sk_lookup_tcp": "bpf_sk_release()",
        "sk_lookup_udp": "bpf_sk_release()",
        "skc_lookup_tcp": "bpf_sk_release()",
        "ringbuf_reserve_dynptr": "bpf_ringbuf_submit_dynptr() or bpf_ringbuf_discard_dynptr() (even when it failed)",
        "task_acquire": "bpf_task_release()",
        "task_from_pid": "bpf_task_release()",
        "cgroup_acquire": "bpf_cgroup_release()",
        "cgroup_from_id": "bpf_cgroup_release()",
        "obj_new_impl": "bpf_obj_drop()",
        "kptr_xchg": "its release function",
    }
    maker = re.search(r"bpf_(\w+) gave", what)
    back = give.get(maker[1], "its release function") if maker else "its release function"
    return (
        f"{what} is not given back on this path",
        f"call {back} on every path to `return`, the early ones too",
    )


def lock(f: Finding) -> tuple[str, str]:
    if f.search("calls are not allowed while"):
        last = f.trail.last
        name = f"bpf_{story.called(last)}" if last is not None and story.called(last) else "a function"
        return (
            f"{name} is called while a lock is held",
            "call it before the lock is taken and keep the result in a variable; only the unlock (and functions of lists "
            "and trees) may be called in between",
        )
    return (
        "a lock (or RCU, preemption, interrupts) is still held here",
        "unlock on every path before returning; between lock and unlock no helper may be called and no other lock taken",
    )


def returned(f: Finding) -> tuple[str, str]:
    allowed = f.search(r"should have been in [\[(]([^\])]*)[\])]")
    span = f" ({allowed[1].replace('; ', ' mask ')})" if allowed else ""
    made = f.chapters[-1].what if f.chapters else ""
    computed = "a number" in made and "set to" not in made
    return (
        f"the return value is outside of what this program type may return{span}",
        "return one of the values that the hook knows"
        + (", as a constant on each path: `return condition ? 1 : 0;`" if computed else ""),
    )


def address(f: Finding) -> tuple[str, str]:
    return (
        "a kernel address would leave the program",
        "without CAP_PERFMON programs may not store, compare or return addresses; keep numbers only",
    )


def arithmetic(f: Finding) -> tuple[str, str]:
    made = f.held()
    what = f"on {story.named(made)}" if made is not None and made.is_pointer else "on a pointer"
    if made is not None and made.kind.endswith("_or_null"):
        return (
            "arithmetic on a pointer that may be NULL",
            f"test it first: `if (!{variable_name(f)}) return …;`, then add",
        )
    if f.search(r"value -\d+ makes|unbounded min value"):
        return (
            "the offset that is added may be negative",
            "make the index unsigned, or test `index >= 0` as well, in the variable that is added",
        )
    if f.search("unbounded|out of range|makes"):
        return (
            "the offset that is added may be too large",
            "bound the index before it is added to the pointer",
        )
    return (
        f"this arithmetic {what} is not allowed",
        "only adding a bounded number to a pointer (or subtracting one) is; compute with integers and add the result last, in 64 bits",
    )


def mixed(f: Finding) -> tuple[str, str]:
    return (
        "two paths meet here with pointers of different kinds",
        "make the access in each branch, or copy what you need into a local variable first",
    )


def readonly(f: Finding) -> tuple[str, str]:
    return (
        "this memory is read-only",
        "`const` globals live in .rodata, which is frozen at load; drop `const`, or use another map",
    )


def structure(f: Finding) -> tuple[str, str]:
    if f.search("unreachable"):
        return (
            "no path leads here",
            "remove the code; compilers leave it after a call that never returns, or inline assembly",
        )
    if f.search("jump out of range|jump to reserved|invalid.*insn|not an exit"):
        return (
            "the program's control flow leaves its code",
            "every function ends with `exit` or a jump, and jumps stay inside it",
        )
    return (
        "the program's structure is not allowed",
        "check the object that was loaded: was it linked and relocated?",
    )


def stack_depth(f: Finding) -> tuple[str, str]:
    return (
        "the frames of nested calls share 512 bytes of stack (each is rounded up to 16, or 32 bytes)",
        "keep big variables in a per-CPU array map, pass pointers, or inline the function",
    )


def frames(f: Finding) -> tuple[str, str]:
    return "more than 8 frames of calls", "inline some of the functions, or use tail calls"


def kfunc(f: Finding) -> tuple[str, str]:
    return (
        "this kernel function cannot be called here",
        "kernel functions are for certain program types each; see the documentation of the subsystem, or use a helper",
    )


def sleep(f: Finding) -> tuple[str, str]:
    return (
        "what may sleep is called where sleeping is not allowed",
        'make the program sleepable (`SEC("fentry.s/…")`, `SEC("lsm.s/…")`, "uprobe.s") and call it outside of locks and RCU regions',
    )


def trusted(f: Finding) -> tuple[str, str]:
    return (
        "the pointer is not known to be valid for as long as the call needs it",
        "pass the pointer that the hook was given, or take a reference first (bpf_task_acquire and the like), inside bpf_rcu_read_lock where needed",
    )


def opcode(f: Finding) -> tuple[str, str]:
    return (
        "this kernel does not know the instruction",
        "compile for an older processor (-mcpu=v2 or v3): v4 needs Linux 6.6, its atomics 6.15",
    )


def reference(f: Finding) -> tuple[str, str]:
    if given_back(f) and (gone := _gone(f)) is not None:
        return gone
    return (
        "this needs a pointer that was acquired and not yet given back",
        "release each reference once, on each path, with the pointer that the acquiring call returned",
    )


def constant(f: Finding) -> tuple[str, str]:
    last = f.trail.last
    if last is not None and story.called(last) == "ringbuf_reserve":
        return (
            "the size of a record must be a constant that the verifier knows",
            "reserve the largest size there can be; or copy records of any size with bpf_ringbuf_output(), or reserve with "
            "bpf_ringbuf_reserve_dynptr()",
        )
    return (
        "this argument must be a constant that the verifier knows",
        "pass a literal or a `const` global, not a value computed at run time",
    )


def map_kind(f: Finding) -> tuple[str, str]:
    return (
        "this helper does not go with maps of this type",
        "use the helper that belongs to the map's type (see docs of the map)",
    )


def zero(f: Finding) -> tuple[str, str]:
    return (
        "the length may be zero, which this helper does not take",
        "test it: `if (len == 0) return …;` (or `len > 0 && len <= MAX`)",
    )


def division(f: Finding) -> tuple[str, str]:
    return "a division by the constant zero", "check the constant"


def btf(f: Finding) -> tuple[str, str]:
    if f.search("only read is supported"):
        return (
            "programs may not write to the kernel's objects",
            "keep what you want to remember in a map, keyed by the object; a few fields can be written by kernel functions "
            "or in struct_ops programs",
        )
    return (
        "a field of a kernel type is accessed in a way its BTF does not allow",
        "read fields at their own offset and size, write none (but those the kernel opens); compile with CO-RE so that offsets fit this kernel",
    )


def relocation(f: Finding) -> tuple[str, str]:
    return (
        "this instruction stands for a CO-RE relocation that found no field",
        "the kernel lacks the type or field: guard the access with bpf_core_field_exists() (in Python `bpf.exists(…)`)",
    )


def _verb(f: Finding) -> str:
    last = f.trail.last
    stores = last is not None and last.text.startswith(("*(", "lock "))
    return "writes" if stores else "reads"


def _constant_length(f: Finding, size: int) -> bool:
    """Whether a call's length argument is just ``size``."""
    held = story.value(f.trail.last, f"R{(f.register or 0) + 1}", before=True)
    return held is not None and held.number == size


def _bytes(count: int) -> str:
    return f"{count} byte{'' if count == 1 else 's'}"


def _span(off: int, size: int) -> str:
    return f"byte {off}" if size == 1 else f"bytes {off} to {off + size - 1}"


def _found(f: Finding, pattern: str) -> int:
    found = f.search(pattern)
    return int(found[1]) if found else 0


def variable_name(f: Finding) -> str:
    """The name of the variable, from the source line where the value was made, else the register."""
    for chapter in f.chapters:
        place = chapter.step.source
        if place is not None:
            named = re.search(r"\b(\w+)\s*=\s*\(?[^=]*\b\w+\(", place.text) or re.search(
                r"\b(\w+) = [\w.]+(?:->\w+)+;", place.text
            )
            if named:
                return named[1]
    return f"r{f.register}" if f.register is not None else "ptr"


def _kind(name: str) -> str:
    return story.named(Value(f"{name}()")) if name else "something else"


def _wanted(want: str) -> str:
    words = {
        "fp": "a stack address",
        "map_ptr": "a map",
        "ctx": "the context",
        "pkt": "a packet pointer",
        "map_value": "a map value",
        "sock": "a socket",
    }
    parts = [part.strip() for part in want.split(",") if part.strip()]
    named = [words.get(part, part) for part in parts[:4]]
    if not named:
        return "another kind of value"
    return " or ".join(named) + (" or other memory" if len(parts) > 4 else "")


def dynptr(f: Finding) -> tuple[str, str]:
    if f.search("cannot overwrite|potential write|invalid write"):
        return (
            "this would overwrite a dynptr that is in use",
            "leave its 16 bytes of stack alone until it is released, and write through bpf_dynptr_write() or a slice",
        )
    if f.search("(?i)uninitialized dynptr|has to be an uninitialized"):
        return (
            "this dynptr is in use already",
            "use a `struct bpf_dynptr` of its own for each, or release it first",
        )
    return (
        "this needs a dynptr that is initialised, by its own address",
        "initialise it with bpf_dynptr_from_mem(), bpf_dynptr_from_skb(), bpf_ringbuf_reserve_dynptr() or the like, and pass `&ptr`",
    )


def iterator(f: Finding) -> tuple[str, str]:
    return (
        "open-coded iterators are created, moved on and destroyed, in that order, on every path",
        "bpf_iter_…_new() first, bpf_iter_…_next() in the loop, bpf_iter_…_destroy() on every way out; bpf_for() does it for you",
    )


def kptr(f: Finding) -> tuple[str, str]:
    return (
        "a kernel pointer in a map value is handled in a way it does not allow",
        "store and take referenced ones with bpf_kptr_xchg() only, read others with a plain 8-byte load at a constant offset",
    )


def graph(f: Finding) -> tuple[str, str]:
    return (
        "lists and trees in map values are touched under the lock that stands beside them",
        "call bpf_spin_lock() on the lock of the same value first, and only list and tree functions until the unlock",
    )


def callback(f: Finding) -> tuple[str, str]:
    return (
        "this cannot be done in a callback or from one",
        "do it in the program itself; callbacks return 0 or 1",
    )


def recursion(f: Finding) -> tuple[str, str]:
    return "a function calls itself, directly or through others", "use a loop, bpf_loop(), or a tail call"


def atomic(f: Finding) -> tuple[str, str]:
    return (
        "atomic operations work on the stack, map values and allocated memory, not on this",
        "read, compute and write, or keep the counter in a map",
    )


def privilege(f: Finding) -> tuple[str, str]:
    return (
        "this needs CAP_BPF (and for tracing CAP_PERFMON)",
        "run as root or with those capabilities; see `skep feature probe`",
    )


def target(f: Finding) -> tuple[str, str]:
    return (
        "what the program is to be attached to does not fit",
        "check the function's name and kind (`skep btf dump file /sys/kernel/btf/vmlinux`), and that this kernel lets programs attach to it",
    )


def rcu(f: Finding) -> tuple[str, str]:
    return (
        "this is only allowed inside an RCU read section",
        "put it between bpf_rcu_read_lock() and bpf_rcu_read_unlock()",
    )


def exception(f: Finding) -> tuple[str, str]:
    return (
        "exceptions are not allowed here, or their handler has another form",
        "see the rules of bpf_throw(): no locks or references held, one handler with one u64 argument",
    )


def socket(f: Finding) -> tuple[str, str]:
    return (
        "a socket is accessed where it cannot be",
        "test it for NULL, turn it into the kind that has the field (bpf_sk_fullsock, bpf_tcp_sock), and read the fields that struct bpf_sock has",
    )


def map_reference(f: Finding) -> tuple[str, str]:
    return (
        "the instruction does not name a map that is there",
        "load through a loader that creates the object's maps and fills in their descriptors",
    )
