"""Facts about registers, made true by code that every verifier accepts.

    r6=ctx                  the context (r6 to r9, or r1)
    r6=unknown              a number of which nothing is known
    r6=u8 | u16 | u32       zero-extended
    r6=s8 | s16 | s32       sign-extended
    r6=[-5,10]              between these, signed
    r6=value(m)             a pointer to a value of map m, not null; key zeros lie below fp, 8 bytes or more
    r6=value_or_null(m)     not tested yet
    r6=packet(20)           the packet, of which 20 bytes are known to be there
    r6=data, data_end, data_meta
    r6=ringbuf(m,16)        16 reserved bytes, not null
    r6=5, r6=fp-8           a constant, an address in the stack

All but ctx, constants and addresses use r0 to r5. Where a fact fails the program returns 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from skep.obj import MapSpec
from skep.uapi.enums import ProgType

#: (data, data_end, data_meta) in the context
_PACKET = {
    ProgType.XDP: (0, 4, 8),
    ProgType.SCHED_CLS: (76, 80, 140),
    ProgType.SCHED_ACT: (76, 80, 140),
    ProgType.CGROUP_SKB: (76, 80, 140),
    ProgType.SK_SKB: (76, 80, 140),
    ProgType.LWT_XMIT: (76, 80, 140),
    ProgType.LWT_IN: (76, 80, 140),
}
_MASKS = {"u8": 0xFF, "u16": 0xFFFF}


def prelude(facts: str, prog_type: ProgType, maps: Mapping[str, MapSpec]) -> tuple[list[str], list[str]]:
    """(lines before the code, lines after the main program's)."""
    items = [item.strip() for item in re.split(r",\s*(?=r\d+\s*=)", facts) if item.strip()]
    out: list[str] = []
    parsed = []
    ctx = 1
    for item in items:
        found = re.fullmatch(r"r(\d+)\s*=\s*(.+)", item)
        if found is None:
            raise ValueError(f"pre: {item!r}")
        if found[2] == "ctx":
            if int(found[1]) != 1:
                out.append(f"r{found[1]} = r1")
                ctx = int(found[1])
            continue
        parsed.append((int(found[1]), found[2].strip()))
    for register, what in parsed:
        out += _fact(register, what, ctx, prog_type, maps)
    uses = any("skep_out" in line for line in out)
    return out, ["skep_out: r0 = 0", "exit"] if uses else []


def _fact(register: int, what: str, ctx: int, prog_type: ProgType, maps: Mapping[str, MapSpec]) -> list[str]:
    r = f"r{register}"
    random = ["call bpf_get_prandom_u32", f"{r} = r0"]
    if what == "unknown":
        return random
    if what in _MASKS:
        return [*random, f"{r} &= {_MASKS[what]:#x}"]
    if what == "u32":
        return ["call bpf_get_prandom_u32", f"w{register} = w0"]
    if what in ("s8", "s16", "s32"):
        return ["call bpf_get_prandom_u32", f"{r} = ({what})r0"]
    if found := re.fullmatch(r"\[(-?\w+),\s*(-?\w+)\]", what):
        return [*random, f"if {r} s< {found[1]} goto skep_out", f"if {r} s> {found[2]} goto skep_out"]
    if found := re.fullmatch(r"value(_or_null)?\((\w+)\)", what):
        size = max(8, (maps[found[2]].key_size + 7) // 8 * 8)
        lines = [f"*(u64 *)(r10 -{off}) = 0" for off in range(8, size + 8, 8)]
        lines += ["r2 = r10", f"r2 += -{size}", f"r1 = map {found[2]}", "call bpf_map_lookup_elem"]
        if not found[1]:
            lines.append("if r0 == 0 goto skep_out")
        return [*lines, f"{r} = r0"]
    if what in ("data", "data_end", "data_meta") or what.startswith("packet("):
        data, end, meta = _PACKET[prog_type]
        if what == "data_end":
            return [f"{r} = *(u32 *)(r{ctx} +{end})"]
        if what == "data_meta":
            return [f"{r} = *(u32 *)(r{ctx} +{meta})"]
        if what == "data":
            return [f"{r} = *(u32 *)(r{ctx} +{data})"]
        count = int(what[7:-1], 0)
        return [
            f"r4 = *(u32 *)(r{ctx} +{end})", f"{r} = *(u32 *)(r{ctx} +{data})", f"r5 = {r}", f"r5 += {count}",
            "if r5 > r4 goto skep_out",
        ]  # fmt: skip
    if found := re.fullmatch(r"ringbuf\((\w+),\s*(\d+)\)", what):
        return [
            f"r1 = map {found[1]}", f"r2 = {found[2]}", "r3 = 0", "call bpf_ringbuf_reserve",
            "if r0 == 0 goto skep_out", f"{r} = r0",
        ]  # fmt: skip
    if found := re.fullmatch(r"fp(-\d+)?", what):
        return [f"{r} = r10", *([f"{r} += {found[1]}"] if found[1] else [])]
    if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", what):
        return [f"{r} = {what}"] if abs(int(what, 0)) < 1 << 31 else [f"{r} = {what} ll"]
    raise ValueError(f"pre: nothing is called {what!r}")
