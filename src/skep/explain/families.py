"""The families of mistakes: how a verifier words each, and what it asks for.

The wordings are those of Linux 5.10 to 7.3.
"""

from __future__ import annotations

# ruff: noqa: E501 (patterns stay whole)
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from skep.explain import advice, index
from skep.explain.advice import Finding
from skep.explain.trail import Trail


class Family(NamedTuple):
    """One kind of mistake.

    ``name`` is stable, for programs and searches. ``title`` heads the explanation. ``tell`` gives the label that
    stands under the source line, and the advice.
    """

    name: str
    title: str
    rule: str
    pattern: re.Pattern[str]
    tell: Callable[[Finding], tuple[str, str]]


def _family(
    name: str, title: str, rule: str, pattern: str, tell: Callable[[Finding], tuple[str, str]]
) -> Family:
    return Family(name, title, rule, re.compile(pattern), tell)


_OFF: Final = r"off=(?P<off>-?\d+) size=(?P<size>\d+)"

#: in the order they are tried; the first that matches a message is it
FAMILIES: Final[tuple[Family, ...]] = (
    _family(
        "core-relocation",
        "a CO-RE relocation failed",
        "a poisoned instruction must not be reached",
        r"#?195896080|call unknown#195896080",
        advice.relocation,
    ),
    _family(
        "dynptr",
        "a dynptr is not what it must be",
        "dynptrs are made, used and released by their own functions",
        r"(?i)dynptr",
        advice.dynptr,
    ),
    _family(
        "iterator",
        "an iterator is not in the state it must be in",
        "new, next, destroy",
        r"initialized iter_|iter_\w+ as (?:R|arg)|variable iter|iterator",
        advice.iterator,
    ),
    _family(
        "kptr",
        "a pointer kept in a map is mishandled",
        "kptrs are exchanged, not written",
        r"kptr|uptr",
        advice.kptr,
    ),
    _family(
        "list-or-tree",
        "a list or tree is used without its lock",
        "bpf_list_head and bpf_rb_root are guarded by the bpf_spin_lock beside them",
        r"must be held for|rbtree|bpf_rb_|bpf_list_|non-owning ref",
        advice.graph,
    ),
    _family(
        "exception",
        "an exception where none may be",
        "bpf_throw()",
        r"exception c|bpf_throw|exception callback",
        advice.exception,
    ),
    _family(
        "recursion", "recursion", "functions must not call themselves", r"recursive call", advice.recursion
    ),
    _family(
        "callback",
        "not in a callback",
        "callbacks have their own rules",
        r"from callback|in callback|in \w+ cb\b|callback (?:subprog|function)|calls are not allowed(?! while)",
        advice.callback,
    ),
    _family(
        "atomic",
        "an atomic operation on what has none",
        "",
        r"BPF_ATOMIC \w+ into|atomic .*not allowed",
        advice.atomic,
    ),
    _family(
        "privileges",
        "privileges are missing",
        "",
        r"are allowed for|CAP_(?:BPF|SYS_ADMIN|PERFMON)|allowed for root",
        advice.privilege,
    ),
    _family(
        "rcu-section",
        "outside of an RCU section",
        "RCU-protected pointers live only inside a read section",
        r"RCU CS|RCU critical section|rcu_read_lock",
        advice.rcu,
    ),
    _family(
        "attach-target",
        "the attach target does not fit",
        "",
        r"disabled hook|attach_btf|is not a (?:kernel )?function|can only be attached|cannot attach|attach to",
        advice.target,
    ),
    _family(
        "socket",
        "a socket is accessed askew",
        "",
        r"invalid sock access|cannot update sockmap|type=sock",
        advice.socket,
    ),
    _family(
        "map-reference",
        "a map that is not there",
        "",
        r"not pointing to valid bpf_map|isn't map pointer|unrecognized bpf_ld_imm64",
        advice.map_reference,
    ),
    _family(
        "packet-bounds",
        "the packet is read beyond what was checked",
        "every byte of the packet that is touched must lie before data_end by a comparison on this path",
        rf"invalid access to packet, {_OFF}, R(?P<reg>\d+)|R(?P<reg2>\d+) offset is outside of the packet|invalid access to packet|helper access to the packet",
        advice.packet,
    ),
    _family(
        "unchecked-null",
        "a pointer that may be NULL is used",
        "what may be NULL must be tested before it is used",
        r"R(?P<reg>\d+) invalid mem access '(?P<kind>\w+_or_null_?)'|R(?P<reg2>\d+) pointer arithmetic on (?P<kind2>\w+_or_null_?) prohibited",
        advice.null,
    ),
    _family(
        "lost-pointer",
        "memory is accessed through something that is no valid pointer",
        "the verifier must know what a register points to",
        r"R(?P<reg>\d+) invalid mem access '(?P<kind>inv|scalar|\w+)'|invalid mem access",
        advice.scalar_access,
    ),
    _family(
        "variable-length",
        "a length is not bounded",
        "lengths given to helpers need a known range that fits the buffer",
        r"R(?P<reg>\d+) unbounded memory access, use 'var &= const'|R(?P<reg2>\d+) min value is negative, either use unsigned or 'var &= const'",
        advice.length,
    ),
    _family(
        "zero-length",
        "a length may be zero",
        "this size argument must be at least 1",
        r"R(?P<reg>\d+) invalid zero-sized read|invalid zero-size",
        advice.zero,
    ),
    _family(
        "unbounded-index",
        "an access may lie outside of its memory",
        "the offset's smallest and greatest value must both lie inside",
        rf"invalid access to (?:map value|map key|memory|mem|buffer)(?:, (?:value|key|mem)_size=(?P<vs>\d+))?,? ?{_OFF}|"
        r"R(?P<reg>\d+) (?:unbounded memory access, make sure|1 value is outside|min value is negative|min value is outside|max value is outside|unbounded min)|"
        r"R\d+ invalid (?:map_value|\w+) (?:access|buffer access)|invalid (?:variable|negative) buffer offset",
        index.map_bounds,
    ),
    _family(
        "stack-depth",
        "too much stack",
        "512 bytes in all frames together",
        r"combined stack|stack depth.*exceeds|looks like the BPF stack limit",
        advice.stack_depth,
    ),
    _family(
        "call-depth",
        "calls nest too deep",
        "8 frames",
        r"call stack|call stack.*too deep",
        advice.frames,
    ),
    _family(
        "misaligned",
        "a misaligned access",
        "stack, context and (where asked) all memory need natural alignment",
        r"misaligned (?:\w+ ){1,3}(?:access|off).* size (?P<size>\d+)|misaligned|BPF_ATOMIC.*not aligned",
        advice.alignment,
    ),
    _family(
        "uninitialised-stack",
        "the stack is read before it is written",
        "every byte read, or given to a helper, must have been written",
        r"invalid (?:indirect )?(?:read|access) (?:from|to) stack (?:R\d+ )?(?:off|var_off)[ =]\(?(?P<off>-?\d+)?.*?size[ =](?P<size>\d+)|invalid indirect read from stack|invalid read from stack",
        advice.stack_uninit,
    ),
    _family(
        "stack-bounds",
        "an access outside of the stack",
        "512 bytes below r10, at bounded offsets",
        r"invalid (?:variable-offset|unbounded variable-offset) .*stack|invalid (?:write to|read from|indirect access to|stack)? ?stack.*off=(?P<off>-?\d+)|invalid stack (?:off|type)|invalid size of register fill|invalid write to stack|invalid variable stack|variable stack access|stack pointer (?:is )?out of range|attempt to corrupt spilled",
        advice.stack_bounds,
    ),
    _family(
        "uninitialised-register",
        "a register is used before it is set",
        "registers (other than r1 and r10) start with nothing in them",
        r"(?:R(?P<reg>\d+) )?!read_ok|stack arg\d+ is not initialized|frame pointer is read only",
        advice.register,
    ),
    _family(
        "gpl-only",
        "the licence does not allow this",
        "some helpers and kernel functions are GPL-only",
        r"from non-GPL compatible program|cannot call GPL-restricted function|cannot call GPL only|struct ops programs must have a GPL",
        advice.gpl,
    ),
    _family(
        "helper-not-allowed",
        "the helper cannot be called here",
        "each program type has its own set of helpers",
        r"(?:unknown func|cannot use helper|invalid func) (?P<name>[\w#]+)|helper call is not allowed|func (?P<name2>\w+)#\d+ not supported for program type",
        advice.helper,
    ),
    _family(
        "kfunc-not-allowed",
        "the kernel function cannot be called here",
        "each program type has its own set of kernel functions",
        r"calling kernel function (?P<name>\w+) is not allowed|kernel function call|kfunc .* not allowed|not allowed to call kernel function",
        advice.kfunc,
    ),
    _family(
        "may-sleep",
        "sleeping is not allowed here",
        "non-sleepable programs and critical sections must not sleep",
        r"(?:kernel func|helper|global function|function).*(?:might sleep|may sleep|sleepable)|sleepable (?:helper|kfunc|global)|called from (?:non-)?sleepable|kfunc .* is sleepable within",
        advice.sleep,
    ),
    _family(
        "untrusted-pointer",
        "the pointer is not trusted",
        "kernel functions take trusted or referenced pointers",
        r"expects referenced PTR_TO_BTF_ID|NULL pointer passed to|must be (?:referenced or trusted|a rcu pointer|referenced|trusted)|Possibly NULL pointer passed to trusted",
        advice.trusted,
    ),
    _family(
        "unreleased-reference",
        "a reference is not given back",
        "what is acquired must be released on every path",
        r"Unreleased reference(?: id=\d+ alloc_insn=(?P<pc>\d+))?|Leaking reference|cannot tail call|would lead to reference leak|reference has not been acquired before leak|has to be released|tail_call would lead to reference leak",
        advice.leak,
    ),
    _family(
        "released-twice",
        "there is no reference to give back",
        "a release needs a reference that is held",
        r"release of unowned|reference has not been acquired|must be referenced when passed to release|release helper .* expects referenced|arg \d+ is an unacquired reference|Unacquired",
        advice.reference,
    ),
    _family(
        "lock-held",
        "a lock is still held",
        "what is locked must be unlocked, in order, before the program ends or calls out",
        r"cannot be used inside|bpf_spin_unlock is missing|bpf_rcu_read_unlock is missing|function calls are not allowed while holding a lock|"
        r"locks? .*not released|unlock of different|deadlock|irq state|without taking a lock|inside bpf_spin_lock|inside bpf_rcu_read_lock|inside bpf_preempt|inside bpf_local_irq|bpf_spin_lock.*(?:twice|already)|preempt_enable|two bpf_spin_lock",
        advice.lock,
    ),
    _family(
        "return-value",
        "the return value is out of range",
        "each hook knows the values it may be given",
        r"At (?:program exit|callback return|async callback return|subprogram exit) the register R\d+|has (?:value|smin|unknown scalar value|no value).*should have been|should have been in [\[(]",
        advice.returned,
    ),
    _family(
        "address-leak",
        "an address would leave the program",
        "programs without CAP_PERFMON keep addresses to themselves",
        r"leaks addr|leaking pointer|pointer comparison|partial copy of pointer|R\d+ has pointer with unsupported alu",
        advice.address,
    ),
    _family(
        "pointer-arithmetic",
        "arithmetic that a pointer does not allow",
        "pointers move by bounded numbers, in 64 bits",
        r"R(?P<reg>\d+) (?:pointer arithmetic|32-bit pointer arithmetic|bitwise operator|tried to add|tried to subtract|subtraction from|pointer \S+ pointer|has unknown|.*out of range)|"
        r"math between|value .* makes .* (?:pointer|be out of bounds)|unbounded min value|pointer offset -?\d+|value -?\d{6,}|pointer arithmetic with|pointer offset .* is not allowed",
        advice.arithmetic,
    ),
    _family(
        "mixed-pointers",
        "one instruction, two kinds of pointer",
        "an instruction must find the same kind of pointer on every path",
        r"same insn cannot be used with different pointers",
        advice.mixed,
    ),
    _family(
        "read-only",
        "a write to read-only memory",
        "maps that are frozen or flagged, and rdonly pointers, take no writes",
        r"write into map forbidden|cannot write into|read-only|rdonly|write into memory|does not allow writes|read from map forbidden|write to .* prohibited|cannot be written",
        advice.readonly,
    ),
    _family(
        "context-access",
        "the context is accessed in a way it does not have",
        "each program type has its fields, sizes and writable ones",
        rf"invalid bpf_context access {_OFF}|dereference of modified|modified ctx|negative offset \w+ ptr|ptr R\d+ off=|access to flow keys|variable ctx access|invalid bpf_context access|cannot access .*ctx",
        advice.context,
    ),
    _family(
        "argument-type",
        "an argument is of the wrong kind",
        "arguments must be what the helper's prototype asks for",
        r"R(?P<reg>\d+) type=(?P<have>\w+) expected=(?P<want>.*)|arg#\d+ (?:expected|expects|pointer|is|arg)|Caller passes invalid args|R\d+ (?:must|has to|is not|doesn't|expected)(?! (?:be )?a known const)|expected pointer to|invalid type for",
        advice.argument,
    ),
    _family(
        "constant-argument",
        "an argument must be a constant",
        "some sizes and keys must be known at load",
        r"R(?P<reg>\d+) (?:is not a known constant|must be a known constant|must have a constant|unbounded|needs to be a const)|must be a known constant|not a const",
        advice.constant,
    ),
    _family(
        "map-function",
        "helper and map do not go together",
        "each helper works on certain map types",
        r"cannot pass map_type \d+ into func|map .*has to have BTF|doesn't have .* in map value|progs cannot use|doesn't match map pointer|doesn't point to|non-zero flags|only read from|cannot be used with map",
        advice.map_kind,
    ),
    _family(
        "too-complex",
        "the program is too complex for the verifier",
        "1,000,000 instructions are followed, 8,192 branches kept open",
        r"BPF program is too large|The sequence of \d+ jumps is too complex|program is too complex|too many states|complexity limit|too many (?:pending|instructions)",
        advice.complex,
    ),
    _family(
        "endless-loop",
        "a loop that does not end",
        "every loop must end by a bound that the verifier can see",
        r"infinite loop detected",
        advice.endless,
    ),
    _family(
        "back-edge",
        "a loop",
        "before Linux 5.3 (and without privileges) no loops",
        r"back-edge from insn|loop detected",
        advice.backedge,
    ),
    _family(
        "division-by-zero",
        "a division by zero",
        "a constant divisor must not be 0",
        r"div by zero",
        advice.division,
    ),
    _family(
        "kernel-type",
        "a kernel object is accessed askew",
        "accesses follow the type's BTF",
        r"only read is supported|access beyond struct|access beyond the end of member|cannot access ptr member|Type '\w+' is not a struct|is ptr_.* invalid|only .* access",
        advice.btf,
    ),
    _family(
        "unknown-instruction",
        "an instruction that this kernel does not know",
        "the instruction set grew: v2 in 4.14, v3 in 5.1, v4 in 6.6",
        r"unknown opcode|R1[1-5] is invalid|BPF_\w+ uses reserved fields|invalid BPF_|uses reserved fields|invalid bpf_ld_imm64|unknown insn",
        advice.opcode,
    ),
    _family(
        "structure",
        "the program's structure",
        "all code is reachable, jumps stay inside their function, the last instruction leaves it",
        r"unreachable|jump out of range|jump into the middle|last insn|not an exit|invalid destination|jumps? .*out of range|invalid subprog|no .* subprog|func#\d+|call to invalid destination|unknown call",
        advice.structure,
    ),
)


def _beyond_stack(match: re.Match[str]) -> bool:
    """Linux words reads of what was never written and reads beyond the stack in one way."""
    if match["off"] is None or match["size"] is None:
        return False
    off = int(match["off"])
    return off < -512 or off + int(match["size"]) > 0


def find(trail: Trail) -> tuple[Family, Finding] | None:
    """The family of a trail's messages; None when no wording is known."""
    text = "\n".join(trail.messages)
    for family in FAMILIES:
        match = family.pattern.search(text)
        if match and not (family.tell is advice.stack_uninit and _beyond_stack(match)):
            finding = Finding(trail, match, text)
            if family.tell is advice.argument and advice.given_back(finding):
                family = next(one for one in FAMILIES if one.tell is advice.reference)
            return family, finding
    return None
