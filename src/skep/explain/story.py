"""A register's story: where its value was made, what changed it, where it was narrowed, on one path."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from skep.explain.states import Value
from skep.explain.trail import Step, Trail

_SET: Final = re.compile(r"([rw])(\d+) (\S*)= (.*)")
_COPY: Final = re.compile(r"(?:\(s(?:8|16|32)\))?([rw])(\d+)$")
_LOAD: Final = re.compile(r"\*\((\w+) \*\)\(r(\d+) ([+-]\d+)\)$")
_STORE: Final = re.compile(r"\*\((\w+) \*\)\(r(\d+) ([+-]\d+)\) = (r\d+|-?\w+)")
_CALL: Final = re.compile(r"call (?:bpf_)?(\w+)(?:#(-?\d+))?")
_IF: Final = re.compile(r"if ([rw])(\d+) (\S+) (?:([rw])(\d+)|(-?\w+))")
_KERNEL: Final = re.compile(r"(trusted_|untrusted_|rcu_)?ptr_(or_null_)?(\w+)$")
#: helpers after which packet pointers are worth nothing (bpf_helper_changes_pkt_data)
MOVES_PACKETS: Final = frozenset(
    {
        "skb_store_bytes",
        "l3_csum_replace",
        "l4_csum_replace",
        "skb_vlan_push",
        "skb_vlan_pop",
        "skb_change_proto",
        "skb_change_tail",
        "skb_pull_data",
        "skb_change_head",
        "xdp_adjust_head",
        "xdp_adjust_meta",
        "xdp_adjust_tail",
        "skb_adjust_room",
        "msg_pull_data",
        "msg_push_data",
        "msg_pop_data",
        "clone_redirect",
        "lwt_push_encap",
        "lwt_seg6_store_bytes",
        "lwt_seg6_adjust_srh",
        "lwt_seg6_action",
        "sk_skb_adjust_room",
        "store_hdr_opt",
        "tail_call",
    }
)
RELEASES: Final = frozenset(
    {
        "sk_release",
        "ringbuf_submit",
        "ringbuf_discard",
        "ringbuf_submit_dynptr",
        "ringbuf_discard_dynptr",
        "obj_drop_impl",
        "task_release",
        "cgroup_release",
        "cpumask_release",
        "put_file",
        "key_put",
    }
)


class Chapter(NamedTuple):
    """One event in a story: what happened to the value at ``step``."""

    step: Step
    what: str


def value(step: Step | None, name: str, *, before: bool = False) -> Value | None:
    """What the log last said of ``name`` ("R1", "fp-8", "refs") after ``step`` (or just before it).

    None when a later instruction set it without the log telling to what.
    """
    number = int(name[1:]) if name[0] == "R" and name[1:].isdigit() else -1
    first = True
    depth = step.frame if step is not None else 0
    for _ in range(200_000):
        if step is None:
            return None
        if step.frame == depth:
            if not (first and before):
                if name in step.after:
                    return Value(step.after[name])
                if number >= 0 and number in written(step):
                    return None
            if name in step.before:
                return Value(step.before[name])
        first = False
        step = step.parent
    return None


def written(step: Step) -> tuple[int, ...]:
    """The registers that an instruction sets."""
    found = _SET.match(step.text)
    if found:
        return (int(found[2]),)
    if step.text.startswith("call"):
        return (0, 1, 2, 3, 4, 5)
    return ()


def called(step: Step) -> str:
    """The name (without ``bpf_``) of the helper or kernel function that an instruction calls, or ""."""
    if not step.text.startswith("call ") or step.text.startswith("call pc"):
        return ""
    found = _CALL.match(step.text)
    return found[1] if found else ""


def of_register(trail: Trail, register: int, at: Step | None = None) -> list[Chapter]:
    """The story of what ``register`` holds before ``at`` (the refused instruction), first event first."""
    chapters: list[Chapter] = []
    at = at or trail.last
    step = at.parent if at is not None else None
    frame = at.frame if at is not None else 0
    slot: str | None = None
    seen = 0
    while step is not None and len(chapters) < 40 and seen < 100_000:
        seen += 1
        if step.frame != frame:
            step = step.parent
            continue
        text = step.text
        if slot is not None:
            stored = _STORE.match(text)
            if stored and stored[2] == "10" and _slot(stored[3]) == slot:
                if stored[4][0] == "r":
                    register, slot = int(stored[4][1:]), None
                    chapters.append(Chapter(step, f"put on the stack from r{register}"))
                else:
                    chapters.append(Chapter(step, f"{stored[4]} is stored on the stack"))
                    break
            step = step.parent
            continue
        if register in written(step):
            chapter, follow = _made(step, register)
            chapters.append(chapter)
            if follow is None:
                break
            if follow[0] == "fp":
                slot = follow[1]
            else:
                register = int(follow[1])
        elif narrowed := _narrowed(step, register):
            chapters.append(Chapter(step, narrowed))
        elif called(step) in MOVES_PACKETS and _was_packet(step.parent, register):
            chapters.append(
                Chapter(step, f"bpf_{called(step)} may move the packet: r{register} is no longer valid")
            )
        elif called(step) in RELEASES and _was_reference(step.parent, register):
            what = f"bpf_{called(step)} gave it back: r{register} is no longer valid"
            chapters.append(Chapter(step, what))
        step = step.parent
    else:
        if step is None and slot is None and register == 1 and seen < 100_000:
            first = trail.path(1)
            if first:
                chapters.append(Chapter(first[0], "the context, which the program is called with"))
    chapters.reverse()
    return chapters


def _slot(offset: str) -> str:
    return str(int(offset))


def _made(step: Step, register: int) -> tuple[Chapter, tuple[str, str] | None]:
    """How ``step`` set ``register``, and where the value came from: ("r", number), ("fp", offset) or None."""
    now = step.after.get(f"R{register}")
    is_ = f": {named(Value(now))}" if now else ""
    if step.text.startswith("call"):
        name = called(step)
        if register:
            return Chapter(step, f"r{register} is lost: a call leaves nothing in r1 to r5"), None
        what = f"bpf_{name}" if name else "the function called"
        return Chapter(step, f"what {what} returned{is_}"), None
    found = _SET.match(step.text)
    if found is None:
        return Chapter(step, f"set here{is_}"), None
    operator, source = found[3], found[4]
    if not operator:
        if copied := _COPY.match(source):
            if copied[2] == "10":
                return Chapter(step, f"the stack's end{is_}"), None
            half = " (its low 32 bits)" if copied[1] == "w" else ""
            return Chapter(step, f"copied from r{copied[2]}{half}{is_}"), ("r", copied[2])
        if loaded := _LOAD.match(source):
            if loaded[2] == "10":
                return Chapter(step, f"taken back from the stack{is_}"), ("fp", _slot(loaded[3]))
            base = value(step, f"R{loaded[2]}", before=True)
            of = f" of {named(base)}" if base is not None and base.is_pointer else ""
            return Chapter(step, f"read from offset {int(loaded[3])}{of}{is_}"), None
        return Chapter(step, f"set to {source}{is_}"), None
    what = f"r{register} {operator}= {source}"
    if other := _COPY.match(source):
        right = value(step, f"R{other[2]}", before=True)
        if right is not None:
            what += f", where r{other[2]} is {named(right)}"
    return Chapter(step, what + is_), ("r", str(register))


def _narrowed(step: Step, register: int) -> str:
    """What a comparison taught about ``register``, or ""."""
    found = _IF.match(step.text)
    if not found or str(register) not in (found[2], found[5]):
        return ""
    now = step.after.get(f"R{register}")
    return f"after `{step.text.partition(' goto')[0]}`: {named(Value(now))}" if now else ""


def _was_packet(step: Step | None, register: int) -> bool:
    was = value(step, f"R{register}")
    return was is not None and was.kind.startswith("pkt")


def _was_reference(step: Step | None, register: int) -> bool:
    was = value(step, f"R{register}")
    return was is not None and (
        "ref_obj_id" in was.fields or was.kind.startswith(("ringbuf_mem", "mem", "alloc_mem", "sock", "ptr_"))
    )


def named(value: Value) -> str:
    """A value in words."""
    kind = value.kind
    if value.number is not None:
        return f"the number {value.number}"
    if kind in ("scalar", "unknown"):
        low, high = bounds(value)
        if low is None and high is None:
            return "a number nothing is known of"
        return f"a number from {_plain(low)} to {_plain(high)}"
    if kind == "pkt":
        reach = value.integer("r") or 0
        at = f" + {offset}" if (offset := _offset(value)) else ""
        return f"a packet pointer{at} with {reach} bytes checked"
    if kind in ("pkt_end", "pkt_meta", "ctx", "fp", "map_ptr"):
        words = {
            "pkt_end": "the packet's end",
            "pkt_meta": "a pointer to packet metadata",
            "ctx": "the context",
        }
        if kind == "fp":
            return f"a stack address (r10 {int(value.fields.get('off') or '0', 0):+d})"
        if kind == "map_ptr":
            return f"the map {value.fields.get('map', '')}".rstrip()
        return words[kind]
    if found := _KERNEL.match(kind):
        return f"a {found[1] or ''}pointer to the kernel's {found[3]}".replace("_", " ", bool(found[1])) + (
            ", or NULL" if found[2] else ""
        )
    null = kind.endswith("_or_null")
    plain = kind.removesuffix("_or_null")
    words = {
        "map_value": f"a pointer into a value of map {value.fields.get('map', '')}".rstrip().removesuffix(
            " of map"
        ),
        "mem": "a pointer to memory",
        "ringbuf_mem": "a ring buffer record",
        "alloc_mem": "a pointer to memory",
        "sock": "a socket",
        "tcp_sock": "a TCP socket",
        "sock_common": "a socket",
    }
    said = words.get(plain, f"a pointer of kind {plain}")
    if size := value.integer("vs") or value.integer("sz"):
        said += f" ({size} bytes{_where(value)})"
    return said + (", or NULL" if null else "")


def bounds(value: Value) -> tuple[int | None, int | None]:
    """The smallest and greatest value that the log tells of a scalar (unsigned when it is never negative)."""
    if value.number is not None:
        return value.number, value.number
    low = value.integer("smin") if "smin" in value.fields else value.integer("smin_value")
    high = value.integer("umax") if "umax" in value.fields else value.integer("umax_value")
    if low is None:
        low = value.integer("umin") if "umin" in value.fields else value.integer("umin_value")
    if high is None:
        high = value.integer("smax") if "smax" in value.fields else value.integer("smax_value")
    if low is not None and low >= 1 << 63:  # signed numbers are written in hexadecimal like unsigned ones
        low -= 1 << 64
    if low is None and high is not None and high >= 0:
        low = 0
    return low, high


def _offset(value: Value) -> int:
    return value.integer("off") or value.integer("imm") or 0


def _where(value: Value) -> str:
    offset = _offset(value)
    low, high = bounds(value)
    if high:
        return f", at offset {offset + (low or 0)} to {offset + high}"
    return f", at offset {offset}" if offset else ""


def _plain(number: int | None) -> str:
    if number is None:
        return "no known bound"
    return f"{number:#x}" if number > 0xFFFFF else str(number)
