"""Programs that hold references: those that give everything back, and those that do not, with what is said.

``at`` is the source under the carets, ``says`` the message, in which lines count from the program's body.
"""

# ruff: noqa: E501 (programs and messages stay whole)
from __future__ import annotations

from typing import NamedTuple

TC = "@bpf.tc\ndef main(ctx: bpf.SkBuff) -> int:\n"
TASK = '@bpf.tp_btf("task_newtask")\ndef main(task: bpf.task_struct, flags: u64) -> int:\n'
SLEEPY = '@bpf.lsm("file_open", sleepable=True)\ndef main(file: bpf.file) -> int:\n'
PRELUDE = """
ring = bpf.RingBuf(u64, size=4096)
sockets = bpf.SockMap(4)
jumps = bpf.ProgArray(4)
scratch = bpf.PerCpuArray(ethhdr, 1)

@bpf.struct
class Locked:
    lock: bpf.SpinLock
    count: u64

locked = bpf.Array(Locked, 1)

@bpf.struct
class Slot:
    task: bpf.Kptr[bpf.task_struct]
    mask: bpf.Kptr[bpf.bpf_cpumask]
    count: u64

slots = bpf.Array(Slot, 4)

def lookup(ctx, network):
    tuple = bpf.bpf_sock_tuple()
    if network == 7:
        return None
    return bpf.sk_lookup_tcp(tuple, network, size=12)

def give(sk):
    bpf.sk_release(sk)

def pair(ctx):
    tuple = bpf.bpf_sock_tuple()
    return 5, bpf.sk_lookup_udp(tuple, 0, size=12)

@bpf.subprog
def family(sk: bpf.Sock) -> u32:
    return sk.family

"""

#: (head, body) of programs that the live kernel loads
GOOD = {
    "if": (TC, """
sk = lookup(ctx, 0)
if sk is not None:
    ctx.mark = sk.family
    bpf.sk_release(sk)
"""),
    "early": (TC, """
sk = lookup(ctx, 0)
if sk is None:
    return 0
if sk.family == 2:
    bpf.sk_release(sk)
    return 1
bpf.sk_release(sk)
"""),
    "one of two": (TC, """
sk = None
tuple = bpf.bpf_sock_tuple()
if ctx.mark == 3:
    sk = bpf.sk_lookup_tcp(tuple, 0, size=12)
elif ctx.mark == 4:
    sk = bpf.sk_lookup_udp(tuple, 0, size=12)
if sk:
    ctx.mark = sk.family
    bpf.sk_release(sk)
"""),
    "second try": (TC, """
tuple = bpf.bpf_sock_tuple()
sk = lookup(ctx, 0)
if sk is None:
    sk = bpf.sk_lookup_udp(tuple, 0, size=12)
    if sk is None:
        return 0
ctx.mark = sk.family
bpf.sk_release(sk)
"""),
    "loop": (TC, """
n = 0
while n < 10:
    sk = lookup(ctx, n)
    n += 1
    if not sk:
        continue
    row = scratch[0]
    row.proto = sk.family
    if sk.family == 10:
        bpf.sk_release(sk)
        break
    bpf.sk_release(sk)
else:
    return 3
"""),
    "functions": (TC, """
n, sk = pair(ctx)
if sk is None:
    return 0
ctx.mark = family(sk) + n
give(sk)
"""),
    "with": (TC, """
for network in range(3):
    with bpf.releasing(lookup(ctx, network)) as sk:
        if sk.family == 4:
            continue
        if sk.family == 5:
            break
        if sk.family == 6:
            return 3
        ctx.mark = sk.family
"""),
    "walrus": (TC, """
if (sk := lookup(ctx, 0)) is not None:
    ctx.mark = sk.family
    bpf.sk_release(sk)
"""),
    "cast": (TC, """
with bpf.releasing(lookup(ctx, 0)) as sk:
    tcp = bpf.tcp_sock(sk)
    if tcp is not None:
        ctx.mark = tcp.snd_cwnd
"""),
    "map": ('@bpf.sk_lookup\ndef main(ctx: bpf.SkLookup) -> int:\n', """
sk = sockets.get(0)
if sk is not None:
    bpf.sk_assign(sk)
    bpf.sk_release(sk)
return 1
"""),
    "kfuncs": (TASK, """
with bpf.releasing(bpf.task_from_pid(1)) as first:
    with bpf.releasing(bpf.cpumask_create()) as mask:
        bpf.cpumask_set_cpu(1, mask)
        if first.pid == 3:
            return 0
    copy = bpf.task_acquire(first)
    if copy is not None:
        bpf.task_release(copy)
"""),
    "sections": (TASK, """
with bpf.rcu_read_lock():
    with bpf.preempt_disable(), bpf.preempt_disable():
        if task.pid == 7:
            return 0
    with bpf.local_irq_save():
        if task.pid == 9:
            return 0
bpf.rcu_read_lock()
parent = task.real_parent.pid
bpf.rcu_read_unlock()
if parent == 7:
    return 1
"""),
    "kptr": (TASK, """
slot = slots[0]
copy = bpf.task_acquire(task)
if copy is None:
    return 0
old = slot.task.swap(copy)
if old is not None:
    slot.count = old.pid
    bpf.task_release(old)
with bpf.releasing(slots[1].task.swap(None)) as out:
    slot.count += out.pid
mask = bpf.cpumask_create()
if mask is not None:
    with bpf.releasing(slot.mask.swap(mask)) as before:
        bpf.cpumask_clear(before)
"""),
    "dynptr": (TASK, """
d = bpf.Dynptr()
if bpf.ringbuf_reserve_dynptr(ring, 8, 0, d) == 0:
    bpf.ringbuf_submit_dynptr(d)
else:
    bpf.ringbuf_discard_dynptr(d)
"""),
    "iterator": (TASK, """
total = 0
for one in bpf.iter_task(None, bpf.BPF_TASK_ITER_ALL_PROCS):
    if one.pid == 77:
        return 0
    if one.pid == 78:
        break
    total += 1
for i in bpf.range(5):
    if i == 3:
        continue
    total += 1
return total & 1
"""),
}  # fmt: skip


class Case(NamedTuple):
    """A program that holds on to something."""

    head: str
    body: str
    at: str
    says: str


BAD = [
    Case(TASK, "t = bpf.task_acquire(task)\nif t is None:\n    return 0\nwith bpf.releasing(slots[0].task.swap(t)) as old:\n    pass\nx = t.pid", "t", "t was given back: swap() on line +4 put it into the map"),
    Case(TASK, "slots[0].task.swap(None)", "slots[0].task.swap(None)", "what slots[0].task.swap() acquires is dropped here and never given back"),
    Case(TASK, "with bpf.releasing(slots[0].task.swap(task)) as x:\n    pass", "slots[0].task.swap(task)", "swap() gives away what was acquired, and nothing on this path acquired task"),
    Case(TASK, "x = slots[0].task.pid", "slots[0].task.pid", "a field for a struct task_struct has no 'pid'"),
    Case(TASK, "s = Slot()\nwith bpf.releasing(s.task.swap(None)) as x:\n    pass", "s.task.swap(None)", "a field for a struct task_struct works in the value of a map only"),
    Case(TASK, "with bpf.releasing(bpf.cpumask_create()) as m:\n    x = slots[0].task.swap(m)", "slots[0].task.swap(m)", "a field for a struct task_struct takes no struct bpf_cpumask"),
    Case(TASK, "slots[0].task = task", "slots[0].task", "a field for a struct task_struct is not set, but exchanged"),
    Case(TC, "sk = lookup(ctx, 0)\nreturn 0", "return 0", "sk, which bpf.sk_lookup_tcp() acquired on line of lookup(), is still held here, where the program ends"),
    Case(TC, "sk = lookup(ctx, 0)\nif sk is None:\n    return 0\nif ctx.mark == 3:\n    bpf.sk_release(sk)\nreturn 0",
         "bpf.sk_lookup_tcp(tuple, network, size=12)", "where two paths meet, what bpf.sk_lookup_tcp() acquires here is given back on line +5 on one and still held on the other"),
    Case(TC, "sk = lookup(ctx, 0)\nif sk:\n    bpf.sk_release(sk)\n    ctx.mark = sk.family", "sk", "sk was given back: bpf.sk_release() on line +3 gave it back"),
    Case(TC, "sk = lookup(ctx, 0)\nif sk:\n    bpf.sk_release(sk)\n    bpf.sk_release(sk)", "sk", "sk was given back: bpf.sk_release() on line +3 gave it back"),
    Case(TC, "lookup(ctx, 0)", "lookup(ctx, 0)", "what bpf.sk_lookup_tcp() acquires is dropped here and never given back"),
    Case(TC, "sk = ctx.sk\nif sk is not None:\n    bpf.sk_release(sk)", "bpf.sk_release(sk)", "bpf.sk_release() gives back what was acquired, and nothing on this path acquired sk"),
    Case(TC, "sk = lookup(ctx, 0)\nif sk:\n    tcp = bpf.tcp_sock(sk)\n    bpf.sk_release(sk)\n    if tcp:\n        ctx.mark = tcp.snd_cwnd", "tcp", "tcp was given back: bpf.sk_release() on line +4 gave it back"),
    Case(TC, "sk = lookup(ctx, 0)\nn, sk = pair(ctx)", "n, sk = pair(ctx)", "sk still holds what bpf.sk_lookup_tcp() acquired on line of lookup(), and gets another value"),
    Case(TC, "for i in range(3):\n    sk = lookup(ctx, i)", "bpf.sk_lookup_tcp(tuple, network, size=12)", "bpf.sk_lookup_tcp() acquires another one here in the next turn of the loop, and what it acquired before may still be held"),
    Case(TC, "sk = lookup(ctx, 0)\njumps.tail_call(1)\nif sk:\n    bpf.sk_release(sk)", "jumps.tail_call(1)", "sk, which bpf.sk_lookup_tcp() acquired on line of lookup(), is still held here, and a tail call does not come back"),
    Case(TC, "with bpf.releasing(lookup(ctx, 0)) as sk:\n    bpf.sk_release(sk)", "bpf.sk_release(sk)", "the 'with' block gives sk back by itself"),
    Case(TC, "with lookup(ctx, 0) as sk:\n    pass", "lookup(ctx, 0)", "what bpf.sk_lookup_tcp() gives may be None, which 'with' does not take"),
    Case(TC, "with bpf.releasing(ctx.sk) as sk:\n    pass", "bpf.releasing(ctx.sk)", "bpf.releasing() takes what a call has just acquired, and bpf.Sock or None here is none"),
    Case(TC, "row = locked[0]\nwith row.lock:\n    sk = lookup(ctx, 0)", "bpf.sk_lookup_tcp(tuple, network, size=12)", "this calls the kernel, which programs cannot while they hold a lock"),
    Case(TC, "row = locked[0]\nbpf.spin_lock(row.lock)", "bpf.spin_lock(row.lock)", "bpf.spin_lock() is written otherwise here"),
    Case(TASK, "t = bpf.task_acquire(task)\nif t is None:\n    return 0\nreturn 1", "return 1", "t, which bpf.task_acquire() acquired on line +1, is still held here, where the program ends"),
    Case(TASK, "bpf.task_release(task)", "bpf.task_release(task)", "bpf.task_release() gives back what was acquired, and nothing on this path acquired task"),
    Case(TASK, "mask = bpf.cpumask_create()", "return 0", "mask, which bpf.cpumask_create() acquired on line +1, is still held here, where the program ends"),
    Case(TASK, "t = bpf.task_from_pid(1)\nif t:\n    bpf.cpumask_release(t)", "bpf.cpumask_release(t)", "bpf.cpumask_release(): 'cpumask' is a struct bpf_cpumask *, not a struct task_struct *"),
    Case(TASK, "bpf.rcu_read_lock()\nif task.pid == 3:\n    return 0\nbpf.rcu_read_unlock()", "return 0", "bpf.rcu_read_lock() of line +1 is still in effect where the program ends"),
    Case(TASK, "bpf.rcu_read_lock()\nif task.pid == 3:\n    bpf.rcu_read_unlock()\nbpf.rcu_read_unlock()", "bpf.rcu_read_lock()", "where two paths meet, bpf.rcu_read_lock() is in effect on one and ended on line +3 on the other"),
    Case(TASK, "bpf.rcu_read_unlock()", "bpf.rcu_read_unlock()", "bpf.rcu_read_unlock() ends what has not begun on this path"),
    Case(TASK, "with bpf.rcu_read_lock():\n    bpf.rcu_read_lock()", "bpf.rcu_read_lock()", "bpf.rcu_read_lock() is in effect already, since line +1"),
    Case(TASK, "with bpf.preempt_disable():\n    bpf.preempt_enable()", "bpf.preempt_enable()", "the 'with' block ends bpf.preempt_disable() by itself"),
    Case(TASK, "bpf.local_irq_restore(1)", "bpf.local_irq_restore(1)", "interrupts come back where the block ends"),
    Case(TASK, "d = bpf.Dynptr()\nbpf.ringbuf_reserve_dynptr(ring, 8, 0, d)", "return 0", "d, which bpf.ringbuf_reserve_dynptr() acquired on line +2, is still held here, where the program ends"),
    Case(TASK, "d = bpf.Dynptr()\nif bpf.ringbuf_reserve_dynptr(ring, 8, 0, d) == 0:\n    bpf.ringbuf_submit_dynptr(d)", "bpf.ringbuf_reserve_dynptr(ring, 8, 0, d)",
         "where two paths meet, what bpf.ringbuf_reserve_dynptr() acquires here is given back on line +3 on one and still held on the other"),
    Case(TC, "d = bpf.Dynptr()\nx = bpf.dynptr_size(d)", "bpf.dynptr_size(d)", "this dynptr has no memory yet, on some path to here"),
    Case(TC, "d = bpf.Dynptr()\nif ctx.mark:\n    bpf.dynptr_from_skb(0, d)\nb = bpf.char(8)\nbpf.dynptr_read(b, d, 0)", "bpf.dynptr_read(b, d, 0)", "this dynptr has no memory yet, on some path to here"),
    Case(TC, "d = bpf.Dynptr()\nif bpf.ringbuf_reserve_dynptr(ring, 8, 0, d):\n    bpf.dynptr_from_skb(0, d)\nbpf.ringbuf_discard_dynptr(d)", "bpf.dynptr_from_skb(0, d)",
         "this dynptr still holds what bpf.ringbuf_reserve_dynptr() acquired on line +2"),
    Case(TASK, "r = bpf.ringbuf_reserve(ring, 8)", "bpf.ringbuf_reserve(ring, 8)", "bpf.ringbuf_reserve() is written otherwise here"),
    Case(TASK, "it = bpf.iter_task()", "it = bpf.iter_task()", "an iterator is used in 'for' only"),
    Case(TASK, "bpf.iter_task_new(1)", "bpf.iter_task_new(1)", "bpf.iter_task_new() is what a loop calls"),
    Case(TASK, "x = bpf.obj_new_impl(1)", "bpf.obj_new_impl(1)", "bpf.new() takes a struct of the program's own"),
    Case(TASK, "x = bpf.percpu_obj_new(1)", "bpf.percpu_obj_new(1)", "bpf.new_percpu() takes a struct of the program's own"),
    Case(SLEEPY, "for t in bpf.iter_task():\n    pass", "bpf.iter_task()", "bpf.iter_task_new() needs an RCU section in programs that may sleep"),
    Case(SLEEPY, "b = bpf.char(8)\nwith bpf.rcu_read_lock():\n    bpf.copy_from_user(b, 7)", "bpf.copy_from_user(b, 7)", "bpf.copy_from_user() may sleep, and programs may not since bpf.rcu_read_lock()"),
]  # fmt: skip
