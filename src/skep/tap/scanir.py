"""The native loop over a buffer of capture records, as LLVM IR with a filter inlined into it.

For processors that `skep.tap.x86` does not write code for. The text made here is compiled once per filter
and cached; a warm run never comes by. Two symbols:

``walk(ptr states, i64 count)``
    walk the records of several stretches of one buffer in turns, as `skep.tap.native.ScanState` says; their
    ``status`` becomes SHORT, BAD, FULL or LIMIT where it does not stay DONE.
``guess(ptr places, i64 count, ptr data, i64 size, i32 first, i64 bounds)``
    as `skep.tap.x86.guess` says.
``match(ptr packet, i64 caplen, i64 wirelen) -> i64``
    the filter's return value for one packet.

The filter is the translation of the classic program to eBPF, lowered by `skep.jit`: ctx is an image of
struct __sk_buff whose only live field is ``len``. After inlining nothing of it is left.
"""

from __future__ import annotations

from skep.tap.layout import FIELDS, INDEX_ENTRY, RECORD_HEADER, Guessing, Mode, Status

_POINTERS = frozenset(("base", "out", "copy"))
_CTX_BYTES = 192  # sizeof(struct __sk_buff)
_BUDGET = 1 << 32  # what jumps back may cost (protochain)


def module(filter_ir: str, *, swapped: bool, inline: bool = True, name: str = "filter") -> str:
    """IR text of the scan module.

    ``filter_ir`` (`skep.jit.lower` with its declarations) defines
    ``i64 @name(ptr ctx, i64 ctx_len, ptr pkt, i64 pkt_len, ptr state)``; ``swapped``: the record headers are
    not in this machine's byte order; ``inline`` puts the filter into both functions, which pays unless it
    is large.
    """
    return "\n".join([filter_ir, _DECLARATIONS, _match(name, inline), _scan(swapped), _WALK, _guess(swapped)])


_DECLARATIONS = """declare i32 @llvm.umin.i32(i32, i32)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
"""


# A walk is a chain of cache misses: where a record begins is in the record before it. Several walks in
# turns, a record each, wait for their misses together. One that ended before its stretch gets a stop of 0.
_WALK = f"""
define void @walk(ptr %states, i64 %count) {{
entry:
  %alone = icmp eq i64 %count, 1
  br label %round

round:
  br label %lane

lane:
  %i = phi i64 [ 0, %round ], [ %i.next, %after ]
  %any = phi i1 [ false, %round ], [ %any.next, %after ]
  %s.at = mul i64 %i, {8 * len(FIELDS)}
  %s = getelementptr inbounds i8, ptr %states, i64 %s.at
  %pos.p = getelementptr inbounds i64, ptr %s, i64 {FIELDS.index("pos")}
  %pos = load i64, ptr %pos.p, align 8
  %stop.p = getelementptr inbounds i64, ptr %s, i64 {FIELDS.index("stop")}
  %stop = load i64, ptr %stop.p, align 8
  %active = icmp ult i64 %pos, %stop
  br i1 %active, label %one, label %after

one:
  %only = add i64 %pos, 1
  %until = select i1 %alone, i64 %stop, i64 %only
  %status = call i32 @scan(ptr %s, i64 %until)
  %fine = icmp eq i32 %status, {Status.DONE}
  br i1 %fine, label %after, label %ended

ended:
  %wide = zext i32 %status to i64
  %why = getelementptr inbounds i64, ptr %s, i64 {FIELDS.index("status")}
  store i64 0, ptr %stop.p, align 8
  store i64 %wide, ptr %why, align 8
  br label %after

after:
  %any.next = phi i1 [ %any, %lane ], [ true, %one ], [ true, %ended ]
  %i.next = add nuw i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %lane, label %check

check:
  br i1 %any.next, label %round, label %out

out:
  ret void
}}
"""


def _guess(swapped: bool) -> str:
    return f"""
define void @guess(ptr %places, i64 %count, ptr %file, i64 %file.size, i32 %first, i64 %bounds) {{
entry:
  %units = trunc i64 %bounds to i32
  %high = lshr i64 %bounds, 32
  %limit = trunc i64 %high to i32
  br label %one

one:
  %i = phi i64 [ 0, %entry ], [ %i.next, %put ]
  %slot = getelementptr inbounds i64, ptr %places, i64 %i
  %offset = load i64, ptr %slot, align 8
  %data = getelementptr i8, ptr %file, i64 %offset
  %room = call i64 @llvm.usub.sat.i64(i64 %file.size, i64 %offset)
  %size = call i64 @llvm.umin.i64(i64 %room, i64 {Guessing.WINDOW})
  br label %candidate

candidate:
  %c = phi i64 [ 0, %one ], [ %c.next, %implausible ]
  %c.after = add i64 %c, {RECORD_HEADER}
  %c.none = icmp ugt i64 %c.after, %size
  br i1 %c.none, label %put, label %header

header:
  %place = phi i64 [ %c, %candidate ], [ %place.next, %chained ]
  %before = phi i32 [ %first, %candidate ], [ %sec, %chained ]
  %turn = phi i32 [ 0, %candidate ], [ %turn.next, %chained ]
  %after = add i64 %place, {RECORD_HEADER}
  %cut = icmp ugt i64 %after, %size
  br i1 %cut, label %bytes.end, label %fields

bytes.end:
  %enough = icmp uge i32 %turn, {Guessing.LEAST}
  br i1 %enough, label %plausible, label %implausible

fields:
  %rec = getelementptr i8, ptr %data, i64 %place
{_word("sec", 0, swapped)}
{_word("fraction", 4, swapped)}
{_word("caplen", 8, swapped)}
{_word("wirelen", 12, swapped)}
  %ago = sub i32 %before, %sec
  %apart = add i32 %ago, {Guessing.FAR - 1}
  %near = icmp ule i32 %apart, {2 * Guessing.FAR - 2}
  %fine = icmp ult i32 %fraction, %units
  %within = icmp ule i32 %caplen, %limit
  %cut.down = icmp ule i32 %caplen, %wirelen
  %sane = icmp ule i32 %wirelen, {Guessing.LONGEST}
  %and.1 = and i1 %near, %fine
  %and.2 = and i1 %within, %cut.down
  %and.3 = and i1 %and.1, %and.2
  %all = and i1 %and.3, %sane
  br i1 %all, label %chained, label %implausible

chained:
  %cap64 = zext i32 %caplen to i64
  %place.next = add i64 %after, %cap64
  %turn.next = add i32 %turn, 1
  %more = icmp ult i32 %turn.next, {Guessing.CHAIN}
  br i1 %more, label %header, label %plausible

implausible:
  %c.next = add i64 %c, 1
  br label %candidate

plausible:
  %found = add i64 %offset, %c
  br label %put

put:
  %place.new = phi i64 [ %found, %plausible ], [ -1, %candidate ]
  store i64 %place.new, ptr %slot, align 8
  %i.next = add nuw i64 %i, 1
  %i.more = icmp ult i64 %i.next, %count
  br i1 %i.more, label %one, label %done

done:
  ret void
}}
"""


def _match(name: str, inline: bool) -> str:
    # A filter that was stopped (its budget is used up) has not matched; loop-free ones cannot be, and
    # both the state and the test of its second word vanish.
    return f"""
define internal i64 @judge(ptr %pkt, i64 %caplen, i32 %wirelen) {"alwaysinline" if inline else "noinline"} {{
  %ctx = alloca [{_CTX_BYTES} x i8], align 8
  %state = alloca [3 x i64], align 8
  call void @llvm.memset.p0.i64(ptr align 8 %ctx, i8 0, i64 {_CTX_BYTES}, i1 false)
  call void @llvm.memset.p0.i64(ptr align 8 %state, i8 0, i64 24, i1 false)
  store i64 {_BUDGET}, ptr %state, align 8
  store i32 %wirelen, ptr %ctx, align 8
  %r = call i64 @{name}(ptr %ctx, i64 {_CTX_BYTES}, ptr %pkt, i64 %caplen, ptr %state)
  %why.p = getelementptr inbounds i64, ptr %state, i64 1
  %why = load i64, ptr %why.p, align 8
  %ran = icmp eq i64 %why, 0
  %kept = select i1 %ran, i64 %r, i64 0
  ret i64 %kept
}}

define i64 @match(ptr %pkt, i64 %caplen, i64 %wirelen) {{
  %w = trunc i64 %wirelen to i32
  %r = call i64 @judge(ptr %pkt, i64 %caplen, i32 %w)
  ret i64 %r
}}
"""


def _word(name: str, offset: int, swapped: bool) -> str:
    """A 32-bit field of the record header at %rec, in host order, as %name."""
    where = f"  %{name}.p = getelementptr inbounds i8, ptr %rec, i64 {offset}\n"
    if not swapped:
        return f"{where}  %{name} = load i32, ptr %{name}.p, align 1"
    return (
        f"{where}  %{name}.raw = load i32, ptr %{name}.p, align 1\n"
        f"  %{name} = call i32 @llvm.bswap.i32(i32 %{name}.raw)"
    )


def _put(what: str, offset: int) -> str:
    """Store an i32 or i64 value ("i32 %caplen") at %dst + offset."""
    name = f"{what.split()[1]}.at.{offset}"
    return (
        f"  {name} = getelementptr inbounds i8, ptr %dst, i64 {offset}\n  store {what}, ptr {name}, align 1"
    )


def _scan(swapped: bool) -> str:
    slots = "\n".join(
        f"  %{field}.slot = getelementptr inbounds i64, ptr %s, i64 {number}"
        for number, field in enumerate(FIELDS)
        if field != "stop"
    )
    loads = "\n".join(
        f"  %{field} = load {'ptr' if field in _POINTERS else 'i64'}, ptr %{field}.slot, align 8"
        for field in FIELDS
        if field not in ("stop", "status")
    )
    # Loop variables live in allocas that the first pass turns into registers.
    return f"""
define internal i32 @scan(ptr noalias %s, i64 %stop) {{
{slots}
{loads}
  %max32 = trunc i64 %max_caplen to i32
  %snap32 = trunc i64 %snaplen to i32
  %div32 = trunc i64 %divisor to i32
  %at.v = alloca i64, align 8
  %n.v = alloca i64, align 8
  %m.v = alloca i64, align 8
  %u.v = alloca i64, align 8
  store i64 %pos, ptr %at.v, align 8
  store i64 %seen, ptr %n.v, align 8
  store i64 %matched, ptr %m.v, align 8
  store i64 %out_used, ptr %u.v, align 8
  br label %head

head:
  %at = load i64, ptr %at.v, align 8
  %over = icmp uge i64 %at, %stop
  br i1 %over, label %leave, label %header

header:
  %body = add nuw nsw i64 %at, {RECORD_HEADER}
  %no.header = icmp ugt i64 %body, %length
  br i1 %no.header, label %leave, label %fields

fields:
  %rec = getelementptr inbounds i8, ptr %base, i64 %at
{_word("caplen", 8, swapped)}
  %insane = icmp ugt i32 %caplen, %max32
  br i1 %insane, label %leave, label %sane

sane:
  %cap64 = zext i32 %caplen to i64
  %next = add nuw nsw i64 %body, %cap64
  %no.body = icmp ugt i64 %next, %length
  br i1 %no.body, label %leave, label %packet

packet:
{_word("wirelen", 12, swapped)}
  %data = getelementptr inbounds i8, ptr %base, i64 %body
  %following = getelementptr i8, ptr %base, i64 %next
  %following.2 = getelementptr i8, ptr %following, i64 64
  call void @llvm.prefetch.p0(ptr %following, i32 0, i32 3, i32 1)
  call void @llvm.prefetch.p0(ptr %following.2, i32 0, i32 3, i32 1)
  %keep = call i32 @llvm.umin.i32(i32 %caplen, i32 %snap32)
  %keep64 = zext i32 %keep to i64
  %verdict = call i64 @judge(ptr %data, i64 %keep64, i32 %wirelen)
  %n = load i64, ptr %n.v, align 8
  %n1 = add i64 %n, 1
  %kept32 = trunc i64 %verdict to i32
  %no = icmp eq i32 %kept32, 0
  br i1 %no, label %miss, label %hit

miss:
  store i64 %n1, ptr %n.v, align 8
  store i64 %next, ptr %at.v, align 8
  br label %head

hit:
  %u = load i64, ptr %u.v, align 8
  %dst = getelementptr inbounds i8, ptr %out, i64 %u
  %sec.p = getelementptr inbounds i8, ptr %rec, i64 0
  switch i64 %mode, label %counted [ i64 {Mode.EMIT}, label %emit i64 {Mode.INDEX}, label %index ]

emit:
  %u.head = add nuw nsw i64 %u, {RECORD_HEADER}
  %u.emit = add nuw nsw i64 %u.head, %keep64
  %full = icmp ugt i64 %u.emit, %out_size
  br i1 %full, label %leave, label %emit.copy

emit.copy:
{_word("e.sec", 0, swapped)}
{_word("e.fraction", 4, swapped)}
  %e.scaled = udiv i32 %e.fraction, %div32
{_put("i32 %e.sec", 0)}
{_put("i32 %e.scaled", 4)}
{_put("i32 %keep", 8)}
{_put("i32 %wirelen", 12)}
  %to.data = getelementptr inbounds i8, ptr %out, i64 %u.head
  %copied = call ptr %copy(ptr %to.data, ptr %data, i64 %keep64)
  store i64 %u.emit, ptr %u.v, align 8
  br label %counted

index:
  %u.index = add nuw nsw i64 %u, {INDEX_ENTRY}
  %index.full = icmp ugt i64 %u.index, %out_size
  br i1 %index.full, label %leave, label %index.put

index.put:
{_word("i.sec", 0, swapped)}
{_word("i.fraction", 4, swapped)}
  %where = add i64 %body, %file_offset
  %number = add i64 %n, %first
{_put("i64 %number", 0)}
{_put("i64 %where", 8)}
{_put("i32 %keep", 16)}
{_put("i32 %wirelen", 20)}
{_put("i32 %i.sec", 24)}
{_put("i32 %i.fraction", 28)}
  store i64 %u.index, ptr %u.v, align 8
  br label %counted

counted:
  %m = load i64, ptr %m.v, align 8
  %m1 = add i64 %m, 1
  store i64 %m1, ptr %m.v, align 8
  store i64 %n1, ptr %n.v, align 8
  store i64 %next, ptr %at.v, align 8
  %enough = icmp uge i64 %m1, %limit
  br i1 %enough, label %leave, label %head

leave:
  %status = phi i32 [ {Status.DONE}, %head ], [ {Status.SHORT}, %header ], [ {Status.BAD}, %fields ],
                    [ {Status.SHORT}, %sane ], [ {Status.FULL}, %emit ], [ {Status.FULL}, %index ],
                    [ {Status.LIMIT}, %counted ]
  %at.end = load i64, ptr %at.v, align 8
  store i64 %at.end, ptr %pos.slot, align 8
  %n.end = load i64, ptr %n.v, align 8
  store i64 %n.end, ptr %seen.slot, align 8
  %m.end = load i64, ptr %m.v, align 8
  store i64 %m.end, ptr %matched.slot, align 8
  %u.end = load i64, ptr %u.v, align 8
  store i64 %u.end, ptr %out_used.slot, align 8
  ret i32 %status
}}
"""
