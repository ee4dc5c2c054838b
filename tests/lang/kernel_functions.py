"""For every kernel function that a program type of Linux 6.18 may call, a program that calls it."""

# ruff: noqa: E501 (programs stay whole)
# fmt: off
from __future__ import annotations

from typing import NamedTuple

PRELUDE = '''

@bpf.struct
class Item:
    key: u64
    node: bpf.ListNode

@bpf.struct
class Node:
    key: u64
    refs: bpf.Refcount
    node: bpf.RbNode

@bpf.struct
class Plain:
    key: u64

@bpf.struct
class Guard:
    lock: bpf.SpinLock
    items: bpf.ListHead[Item]

@bpf.struct
class Tree:
    lock: bpf.SpinLock
    nodes: bpf.RbRoot[Node]

@bpf.struct
class Res:
    lock: bpf.ResSpinLock
    n: u64

@bpf.struct
class Work:
    n: u64
    wq: bpf.Wq

@bpf.struct
class Later:
    n: u64
    work: bpf.TaskWork

@bpf.struct
class CtOpts:
    netns_id: s32
    error: s32
    l4proto: u8
    dir: u8
    ct_zone_id: u16
    ct_zone_dir: u8
    reserved: bpf.Raw = bpf.raw(3)

@bpf.struct
class CryptoParams:
    kind: bpf.Text = bpf.char(14)
    reserved: u16
    algo: bpf.Text = bpf.char(128)
    key: bpf.Raw = bpf.raw(256)
    key_len: u32
    authsize: u32

@bpf.struct
class Xfrm:
    error: s32
    netns_id: s32
    mark: u32
    daddr: bpf.Raw = bpf.raw(16)
    spi: u32
    proto: u8
    family: u16

@bpf.struct
class Addr:
    all: list[u32] = bpf.array(u32, 4)

@bpf.struct
class Attrs:
    raw: bpf.Raw = bpf.raw(24)

params = bpf.Array(CryptoParams, 1)
laters = bpf.Array(Later, 1)

@bpf.struct
class Slot:
    counts: bpf.PerCpuKptr[Plain]

@bpf.struct
class Crypto:
    ctx: bpf.Kptr[bpf.bpf_crypto_ctx]

@bpf.struct
class T:
    raw: bpf.Raw = bpf.raw(64)
    name: bpf.Text = bpf.char(16)
    numbers: list[u64] = bpf.array(u64, 4)

ts = bpf.Array(T, 1)
guards = bpf.Array(Guard, 1)
trees = bpf.Array(Tree, 1)
ress = bpf.Array(Res, 1)
works = bpf.Array(Work, 1)
slots = bpf.Array(Slot, 1)
cryptos = bpf.Array(Crypto, 1)
hashes = bpf.Hash(u32, u64, max_entries=4)

def less(a: Node, b: Node) -> bool:
    return a.key < b.key

def work(map, key, value) -> int:
    return 0
'''
MASK = '''m = bpf.cpumask_create()
if m is None:
    return 0
n = bpf.cpumask_create()
if n is None:
    bpf.cpumask_release(m)
    return 0
{}
bpf.cpumask_release(n)
bpf.cpumask_release(m)
'''
TASK = '''t = bpf.task_from_pid(1)
if t is None:
    return 0
{}
bpf.task_release(t)
'''
CGRP = '''g = bpf.cgroup_from_id(1)
if g is None:
    return 0
{}
bpf.cgroup_release(g)
'''
DYN = '''d = bpf.Dynptr()
if bpf.dynptr_from_mem(ts[0].raw, 0, d):
    return 0
{}
'''
LIST = '''g = guards[0]
x = bpf.new(Item)
if x is None:
    return 0
y = None
with g.lock:
    {}
if y is not None:
    bpf.drop(y)
'''
TREE = '''g = trees[0]
x = bpf.new(Node)
if x is None:
    return 0
y = None
with g.lock:
    {}
if y is not None:
    bpf.drop(y)
'''
ARENA = 'arena = bpf.Arena(pages=10)\n'
TC = ("tc", "ctx: bpf.SkBuff")
XDP = ("xdp", "ctx: bpf.Xdp")
SYS = ("syscall", "")
FORK = ('tp_btf("task_newtask")', "task: bpf.task_struct, flags: u64")
OPEN = ('lsm("file_open", sleepable=True)', "file: bpf.file")


class Case(NamedTuple):
    """A program. ``member``: of struct tcp_congestion_ops, for functions of congestion control."""

    hook: str
    params: str
    body: str
    member: str = ""
    result: str = "int"


CASES: dict[str, Case] = {}
#: functions that no program can call
UNCALLABLE = {
    "__bpf_trap": "the verifier puts it where no program can be",
    "bpf_kfunc_call_test_release": "takes what only functions of the kernel's own tests give",
    "bpf_kfunc_call_memb_release": "takes what only functions of the kernel's own tests give",
}


#: of schedulers and queue disciplines, of crashes: not in the kernels without sched_ext and BPF qdiscs
ELSEWHERE = ("scx_", "bpf_iter_scx_", "bpf_qdisc_", "bpf_kfree_skb", "bpf_skb_get_hash", "crash_kexec")
#: of kernels that check signatures and fs-verity, which take what those above them take
ALIKE = {"bpf_get_fsverity_digest", "bpf_verify_pkcs7_signature"}
#: of programs that are loaded for one network device
DEVICE = "bpf_xdp_metadata_"


def k(names: str, hook: tuple[str, str], body: str) -> None:
    """A program for each name; ``@@`` in its body is the name."""
    for name in names.split():
        CASES[name] = Case(*hook, body.strip().replace("@@", name.removeprefix("bpf_")))


def cc(names: str, member: str, params: str, body: str, result: str = "None") -> None:
    """The same of congestion control."""
    hook = f'struct_ops("tcp_congestion_ops:{member}")'
    for name in names.split():
        CASES[name] = Case(hook, params, body.replace("@@", name), member, result)


k("bpf_cpumask_create bpf_cpumask_release", SYS, MASK.format("pass"))
k("bpf_cpumask_acquire", SYS, MASK.format("o = bpf.cpumask_acquire(m)\nbpf.cpumask_release(o)"))
for op in ("and", "or", "xor"):
    k(f"bpf_cpumask_{op}", SYS, MASK.format("bpf.@@(m, m, n)"))
k("bpf_cpumask_copy", SYS, MASK.format("bpf.@@(m, n)"))
k("bpf_cpumask_clear bpf_cpumask_setall", SYS, MASK.format("bpf.@@(m)"))
k("bpf_cpumask_set_cpu bpf_cpumask_clear_cpu bpf_cpumask_test_and_set_cpu bpf_cpumask_test_and_clear_cpu", SYS, MASK.format("bpf.@@(0, m)"))
k("bpf_cpumask_test_cpu", SYS, MASK.format("if bpf.@@(0, m):\n    ts[0].numbers[0] = 1"))
k("bpf_cpumask_first bpf_cpumask_first_zero bpf_cpumask_weight bpf_cpumask_any_distribute bpf_cpumask_empty bpf_cpumask_full", SYS, MASK.format("ts[0].numbers[0] = bpf.@@(m)"))
k("bpf_cpumask_first_and bpf_cpumask_any_and_distribute bpf_cpumask_equal bpf_cpumask_intersects bpf_cpumask_subset", SYS, MASK.format("ts[0].numbers[0] = bpf.@@(m, n)"))
k("bpf_cpumask_populate", SYS, MASK.format("ts[0].numbers[0] = bpf.@@(m, ts[0].raw)"))
k("bpf_task_from_pid bpf_task_release", SYS, TASK.format("pass"))
k("bpf_task_from_vpid", SYS, TASK.replace("from_pid", "from_vpid").format("pass"))
k("bpf_task_acquire", FORK, "t = bpf.task_acquire(task)\nif t is not None:\n    bpf.task_release(t)\n")
k("bpf_task_under_cgroup", SYS, TASK.format("g = bpf.cgroup_from_id(1)\nif g is not None:\n    ts[0].numbers[0] = bpf.task_under_cgroup(t, g)\n    bpf.cgroup_release(g)"))
k("bpf_task_get_cgroup1", SYS, TASK.format("g = bpf.task_get_cgroup1(t, 1)\nif g is not None:\n    bpf.cgroup_release(g)"))
k("bpf_send_signal_task", SYS, TASK.format("bpf.send_signal_task(t, 0, bpf.PIDTYPE_PID, 0)"))
k("bpf_cgroup_from_id bpf_cgroup_release", SYS, CGRP.format("pass"))
k("bpf_cgroup_acquire", SYS, CGRP.format("h = bpf.cgroup_acquire(g)\nif h is not None:\n    bpf.cgroup_release(h)"))
k("bpf_cgroup_ancestor", SYS, CGRP.format("h = bpf.cgroup_ancestor(g, 1)\nif h is not None:\n    bpf.cgroup_release(h)"))
k("css_rstat_flush css_rstat_updated", ('tp_btf("cgroup_mkdir")', "cgrp: bpf.cgroup"), "bpf.css_rstat_updated(cgrp.self, 0)")
k("css_rstat_flush", ('iter("cgroup", sleepable=True)', "ctx: bpf.IterCgroup"), "g = ctx.cgroup\nif g is None:\n    return 0\nbpf.css_rstat_flush(g.self)")
k("bpf_iter_css_new bpf_iter_css_next bpf_iter_css_destroy", SYS, CGRP.format("with bpf.rcu_read_lock():\n    for c in bpf.iter_css(g.self, bpf.BPF_CGROUP_ITER_DESCENDANTS_PRE):\n        ts[0].numbers[0] += 1"))
k("bpf_iter_css_task_new bpf_iter_css_task_next bpf_iter_css_task_destroy", OPEN, CGRP.format("for c in bpf.iter_css_task(g.self, 0):\n    ts[0].numbers[0] += 1"))
k("bpf_iter_task_new bpf_iter_task_next bpf_iter_task_destroy", SYS, "with bpf.rcu_read_lock():\n    for t in bpf.iter_task(None, bpf.BPF_TASK_ITER_ALL_PROCS):\n        ts[0].numbers[0] += 1")
k("bpf_iter_task_vma_new bpf_iter_task_vma_next bpf_iter_task_vma_destroy", FORK, "t = bpf.get_current_task_btf()\nfor v in bpf.iter_task_vma(t, 0):\n    ts[0].numbers[0] += v.vm_start")
k("bpf_iter_num_new bpf_iter_num_next bpf_iter_num_destroy", TC, "for i in bpf.range(10):\n    ts[0].numbers[0] += i")
k("bpf_iter_bits_new bpf_iter_bits_next bpf_iter_bits_destroy", TC, "b = bpf.array(u64, 1)\nfor i in bpf.iter_bits(b, 1):\n    ts[0].numbers[0] += i")
k("bpf_iter_dmabuf_new bpf_iter_dmabuf_next bpf_iter_dmabuf_destroy", SYS, "for b in bpf.iter_dmabuf():\n    ts[0].numbers[0] += b.size")
k("bpf_iter_kmem_cache_new bpf_iter_kmem_cache_next bpf_iter_kmem_cache_destroy", SYS, "for b in bpf.iter_kmem_cache():\n    ts[0].numbers[0] += b.size")
k("bpf_get_kmem_cache", FORK, "s = bpf.get_kmem_cache(flags)\nif s is not None:\n    ts[0].numbers[0] = s.size")
k("bpf_rcu_read_lock bpf_rcu_read_unlock", SYS, "with bpf.rcu_read_lock():\n    ts[0].numbers[0] = 1")
k("bpf_preempt_disable bpf_preempt_enable", SYS, "with bpf.preempt_disable():\n    ts[0].numbers[0] = 1")
k("bpf_local_irq_save bpf_local_irq_restore", SYS, "with bpf.local_irq_save():\n    ts[0].numbers[0] = 1")
k("bpf_list_push_front_impl", TC, LIST.format("g.items.push_front(x)"))
k("bpf_list_push_back_impl", TC, LIST.format("bpf.list_push_back(g.items, x)"))
k("bpf_list_pop_front bpf_list_pop_back", TC, LIST.format("g.items.push_front(x)\n    y = bpf.@@(g.items)"))
k("bpf_list_front bpf_list_back", TC, LIST.format("g.items.push_front(x)\n    z = bpf.@@(g.items)\n    if z is not None:\n        z.key = 3"))
k("bpf_rbtree_add_impl", TC, TREE.format("g.nodes.add(x, less)"))
k("bpf_rbtree_first bpf_rbtree_root", TC, TREE.format("g.nodes.add(x, less)\n    z = bpf.@@(g.nodes)\n    if z is not None:\n        z.key = 3"))
k("bpf_rbtree_remove", TC, TREE.format("g.nodes.add(x, less)\n    z = g.nodes.first()\n    if z is not None:\n        y = bpf.rbtree_remove(g.nodes, z)"))
k("bpf_rbtree_left bpf_rbtree_right", TC, TREE.format("g.nodes.add(x, less)\n    z = g.nodes.root()\n    if z is not None:\n        w = bpf.@@(g.nodes, z)\n        if w is not None:\n            w.key = 2"))
k("bpf_obj_new_impl bpf_obj_drop_impl", TC, "with bpf.releasing(bpf.new(Plain)) as x:\n    x.key = 3")
k("bpf_refcount_acquire_impl", TC, "x = bpf.new(Node)\nif x is None:\n    return 0\ny = bpf.refcount_acquire(x)\nif y is not None:\n    bpf.drop(y)\nbpf.drop(x)")
k("bpf_percpu_obj_new_impl bpf_percpu_obj_drop_impl", TC, "with bpf.releasing(bpf.new_percpu(Plain)):\n    pass")
k("bpf_res_spin_lock bpf_res_spin_unlock", TC, "r = ress[0]\nwith r.lock:\n    r.n += 1")
k("bpf_res_spin_lock_irqsave bpf_res_spin_unlock_irqrestore", TC, "r = ress[0]\nif bpf.res_spin_lock_irqsave(r.lock) == 0:\n    r.n += 1\n    bpf.res_spin_unlock_irqrestore(r.lock)")
k("bpf_dynptr_adjust", SYS, DYN.format("bpf.dynptr_adjust(d, 1, 5)"))
k("bpf_dynptr_clone", SYS, DYN.format("e = bpf.Dynptr()\nbpf.dynptr_clone(d, e)"))
k("bpf_dynptr_is_null bpf_dynptr_is_rdonly bpf_dynptr_size", SYS, DYN.format("ts[0].numbers[0] = bpf.@@(d)"))
k("bpf_dynptr_from_skb", TC, "d = bpf.Dynptr()\nbpf.dynptr_from_skb(0, d)")
k("bpf_dynptr_from_skb_meta", TC, "d = bpf.Dynptr()\nbpf.dynptr_from_skb_meta(0, d)")
k("bpf_dynptr_from_xdp", XDP, "d = bpf.Dynptr()\nbpf.dynptr_from_xdp(0, d)")
k("bpf_dynptr_slice", SYS, DYN.format("p = bpf.dynptr_slice(d, 0, u64)\nif p is not None:\n    ts[0].numbers[0] = p.value"))
k("bpf_dynptr_slice_rdwr", TC, DYN.format("p = bpf.dynptr_slice_rdwr(d, 0, u64)\nif p is not None:\n    p.value = 1"))
k("bpf_dynptr_copy", SYS, DYN.format("bpf.dynptr_copy(d, 0, d, 8, 4)"))
k("bpf_dynptr_memset", SYS, DYN.format("bpf.dynptr_memset(d, 0, 4, 7)"))
k("bpf_probe_read_user_dynptr bpf_probe_read_kernel_dynptr bpf_probe_read_user_str_dynptr bpf_probe_read_kernel_str_dynptr bpf_copy_from_user_dynptr bpf_copy_from_user_str_dynptr", SYS, DYN.format("bpf.@@(d, 0, 8, 0)"))
k("bpf_copy_from_user_task_dynptr bpf_copy_from_user_task_str_dynptr", SYS, DYN.format("t = bpf.get_current_task_btf()\nbpf.@@(d, 0, 8, 0, t)"))
k("bpf_copy_from_user_str", SYS, "bpf.copy_from_user_str(ts[0].name, 0)")
k("bpf_copy_from_user_task_str", SYS, "t = bpf.get_current_task_btf()\nbpf.copy_from_user_task_str(ts[0].name, 0, t)")
k("bpf_strlen", SYS, 'ts[0].numbers[0] = bpf.strlen(ts[0].name) & 0xff')
k("bpf_strnlen", SYS, 'ts[0].numbers[0] = bpf.strnlen(ts[0].name, 16) & 0xff')
k("bpf_strcmp bpf_strcasecmp bpf_strcspn bpf_strspn bpf_strstr", SYS, 'ts[0].numbers[0] = bpf.@@(ts[0].name, "abc") & 0xff')
k("bpf_strchr bpf_strchrnul bpf_strrchr", SYS, 'ts[0].numbers[0] = bpf.@@(ts[0].name, 65) & 0xff')
k("bpf_strnchr", SYS, 'ts[0].numbers[0] = bpf.strnchr(ts[0].name, 10, 65) & 0xff')
k("bpf_strnstr", SYS, 'ts[0].numbers[0] = bpf.strnstr(ts[0].name, "b", 10) & 0xff')
k("bpf_stream_vprintk_impl", SYS, 'bpf.stream_vprintk(1, "hello %d", ts[0].numbers)')
k("bpf_task_work_schedule_resume_impl", SYS, "t = bpf.get_current_task_btf()\nbpf.task_work_schedule_resume(t, laters[0].work, laters, work)")
k("bpf_task_work_schedule_signal_impl", SYS, "t = bpf.get_current_task_btf()\nbpf.task_work_schedule_signal(t, laters[0].work, laters, work)")
k("bpf_arena_alloc_pages bpf_arena_free_pages", SYS, "p = arena.alloc(Plain)\nif p is not None:\n    arena.free(p, 1)")
k("bpf_arena_reserve_pages", SYS, "p = arena.alloc(Plain)\nif p is not None:\n    bpf.arena_reserve_pages(arena, p, 1)")
k("bpf_cgroup_read_xattr", ('lsm("file_open", sleepable=True)', "file: bpf.file"), CGRP.format('d = bpf.Dynptr()\nif bpf.dynptr_from_mem(ts[0].raw, 0, d) == 0:\n    bpf.cgroup_read_xattr(g, "user.x", d)'))
k("bpf_cast_to_kern_ctx", TC, "s = bpf.cast_to_kern_ctx(ctx)\nts[0].numbers[0] = s.len")
k("bpf_rdonly_cast", SYS, "t = bpf.get_current_task_btf()\np = bpf.rdonly_cast(t, bpf.task_struct)\nts[0].numbers[0] = p.tgid")
k("bpf_modify_return_test_tp", SYS, "bpf.modify_return_test_tp(1)")
k("bpf_crypto_ctx_create", SYS, "c, err = bpf.crypto_ctx_create(params[0])\nif c is not None:\n    bpf.crypto_ctx_release(c)")
k("bpf_crypto_ctx_release", SYS, "old = cryptos[0].ctx.swap(None)\nif old is not None:\n    bpf.crypto_ctx_release(old)")
k("bpf_crypto_ctx_acquire", SYS, "with bpf.rcu_read_lock():\n    c = cryptos[0].ctx.get()\n    if c is not None:\n        d = bpf.crypto_ctx_acquire(c)\n        if d is not None:\n            bpf.crypto_ctx_release(d)")
k("bpf_crypto_encrypt bpf_crypto_decrypt", TC, "old = cryptos[0].ctx.get()\nif old is None:\n    return 0\nd = bpf.Dynptr()\ne = bpf.Dynptr()\nf = bpf.Dynptr()\nif bpf.dynptr_from_mem(ts[0].raw, 0, d) == 0 and bpf.dynptr_from_mem(ts[0].raw, 0, e) == 0:\n    bpf.@@(old, d, e, None)")
k("bpf_lookup_user_key", OPEN, "k = bpf.lookup_user_key(1, 0)\nif k is not None:\n    bpf.key_put(k)")
k("bpf_key_put bpf_lookup_system_key", OPEN, "k = bpf.lookup_system_key(1)\nif k is not None:\n    bpf.key_put(k)")
k("bpf_map_sum_elem_count", SYS, "ts[0].numbers[0] = bpf.map_sum_elem_count(hashes)")
k("bpf_wq_init", SYS, "w = works[0]\nbpf.wq_init(w.wq, works)")
k("bpf_wq_set_callback_impl", SYS, "w = works[0]\nbpf.wq_set_callback(w.wq, work)")
k("bpf_wq_start", SYS, "w = works[0]\nbpf.wq_start(w.wq)")
k("bpf_sk_assign_tcp_reqsk", TC, "t = bpf.bpf_sock_tuple()\nc = bpf.skc_lookup_tcp(t, 0, size=12)\nif c is None:\n    return 0\ns = bpf.skc_to_tcp_sock(c)\nif s is not None:\n    a = bpf.zero(Attrs)\n    bpf.sk_assign_tcp_reqsk(ctx, s, a)\nbpf.sk_release(c)")
k("bpf_sock_addr_set_sun_path", ("cgroup_connect_unix", "ctx: bpf.SockAddr"), "s = bpf.cast_to_kern_ctx(ctx)\nbpf.sock_addr_set_sun_path(s, b'abc')\nreturn 1")
k("bpf_sock_ops_enable_tx_tstamp", ("sockops", "ctx: bpf.SockOps"), "s = bpf.cast_to_kern_ctx(ctx)\nbpf.sock_ops_enable_tx_tstamp(s)\nreturn 1")
k("bpf_throw", TC, "if ctx.len == 5:\n    bpf.throw(3)")
k("bpf_xdp_pull_data", XDP, "bpf.xdp_pull_data(ctx, 10)")
k("bpf_xdp_get_xfrm_state bpf_xdp_xfrm_state_release", XDP, "o = bpf.zero(Xfrm)\nx = bpf.xdp_get_xfrm_state(ctx, o)\nif x is not None:\n    bpf.xdp_xfrm_state_release(x)")
CT = 't = bpf.bpf_sock_tuple()\no = bpf.zero(CtOpts, l4proto=6, netns_id=-1)\nc = bpf.{}(ctx, t, o{})\nif c is None:\n    return 0\n{}'
k("bpf_skb_ct_alloc", TC, CT.format("skb_ct_alloc","","e = bpf.ct_insert_entry(c)\nif e is not None:\n    bpf.ct_release(e)"))
CASES["bpf_ct_insert_entry"] = CASES["bpf_skb_ct_alloc"]
k("bpf_skb_ct_lookup", TC, CT.format("skb_ct_lookup","","bpf.ct_release(c)"))
CASES["bpf_ct_release"] = CASES["bpf_skb_ct_lookup"]
k("bpf_xdp_ct_alloc", XDP, CT.format("xdp_ct_alloc","","e = bpf.ct_insert_entry(c)\nif e is not None:\n    bpf.ct_release(e)"))
k("bpf_xdp_ct_lookup", XDP, CT.format("xdp_ct_lookup","","bpf.ct_release(c)"))
k("bpf_ct_change_status bpf_ct_change_timeout", TC, CT.format("skb_ct_lookup","","bpf.@@(c, 5)\nbpf.ct_release(c)"))
k("bpf_ct_set_status bpf_ct_set_timeout", TC, CT.format("skb_ct_alloc","","bpf.@@(c, 5)\ne = bpf.ct_insert_entry(c)\nif e is not None:\n    bpf.ct_release(e)"))
k("bpf_ct_set_nat_info", TC, CT.format("skb_ct_alloc","","a = bpf.zero(Addr)\nbpf.ct_set_nat_info(c, a, 5, bpf.NF_NAT_MANIP_SRC)\ne = bpf.ct_insert_entry(c)\nif e is not None:\n    bpf.ct_release(e)"))
cc("bbr_init cubictcp_init", "init", "sk: bpf.sock", "bpf.@@(sk)")
cc("bbr_main", "cong_control", "sk: bpf.sock, ack: u32, flag: s32, rs: bpf.rate_sample", "bpf.@@(sk, ack, flag, rs)")
cc("bbr_min_tso_segs", "min_tso_segs", "sk: bpf.sock", "return bpf.@@(sk)", "int")
cc("bbr_set_state cubictcp_state", "set_state", "sk: bpf.sock, new_state: u8", "bpf.@@(sk, new_state)")
cc("bbr_sndbuf_expand", "sndbuf_expand", "sk: bpf.sock", "return bpf.@@(sk)", "int")
cc("bbr_ssthresh cubictcp_recalc_ssthresh tcp_reno_ssthresh", "ssthresh", "sk: bpf.sock", "return bpf.@@(sk)", "int")
cc("bbr_undo_cwnd tcp_reno_undo_cwnd", "undo_cwnd", "sk: bpf.sock", "return bpf.@@(sk)", "int")
cc("bbr_cwnd_event cubictcp_cwnd_event", "cwnd_event", "sk: bpf.sock, ev: u32", "bpf.@@(sk, ev)")
cc("cubictcp_acked", "pkts_acked", "sk: bpf.sock, sample: bpf.ack_sample", "bpf.@@(sk, sample)")
cc("cubictcp_cong_avoid tcp_reno_cong_avoid", "cong_avoid", "sk: bpf.sock, ack: u32, acked: u32", "bpf.@@(sk, ack, acked)")
cc("tcp_slow_start", "cong_avoid", "sk: bpf.sock, ack: u32, acked: u32", "t = bpf.cast(bpf.tcp_sock, sk)\na = bpf.tcp_slow_start(t, acked)")
cc("tcp_cong_avoid_ai", "cong_avoid", "sk: bpf.sock, ack: u32, acked: u32", "t = bpf.cast(bpf.tcp_sock, sk)\nbpf.tcp_cong_avoid_ai(t, 3, acked)")
FILE = 'f = bpf.get_task_exe_file(bpf.get_current_task_btf())\nif f is None:\n    return 0\n{}bpf.put_file(f)'
k("bpf_get_task_exe_file bpf_put_file", OPEN, FILE.format(""))
k("bpf_path_d_path", OPEN, "bpf.path_d_path(file.f_path, ts[0].name)")
k("bpf_get_file_xattr", OPEN, 'd = bpf.Dynptr()\nif bpf.dynptr_from_mem(ts[0].raw, 0, d) == 0:\n    bpf.get_file_xattr(file, "user.x", d)')
k("bpf_sock_destroy", ('iter("tcp")', "ctx: bpf.IterTcp"), "sk = ctx.sk_common\nif sk is not None:\n    bpf.sock_destroy(sk)")
k("bpf_session_is_return", ('kprobe_session("do_exit")', "ctx"), "ts[0].numbers[0] = bpf.session_is_return()")
k("bpf_session_cookie", ('kprobe_session("do_exit")', "ctx"), "c = bpf.session_cookie()\nif not bpf.session_is_return():\n    c.value = bpf.ktime()\nelse:\n    ts[0].numbers[0] = c.value")
k("bpf_get_dentry_xattr", OPEN, DYN.format('bpf.get_dentry_xattr(file.f_path.dentry, "user.x", d)'))
k("bpf_set_dentry_xattr", ('lsm("inode_setxattr", sleepable=True)', "idmap: bpf.mnt_idmap, dentry: bpf.dentry"), DYN.format('bpf.set_dentry_xattr(dentry, "security.bpf.x", d, 0)'))
k("bpf_remove_dentry_xattr", ('lsm("inode_removexattr", sleepable=True)', "idmap: bpf.mnt_idmap, dentry: bpf.dentry"), 'bpf.remove_dentry_xattr(dentry, "security.bpf.x")')
k("bpf_xdp_metadata_rx_timestamp", XDP, "n = bpf.array(u64, 1)\nif bpf.xdp_metadata_rx_timestamp(ctx, n) == 0:\n    ts[0].numbers[0] = n[0]")
k("bpf_xdp_metadata_rx_hash", XDP, "h = bpf.array(u32, 1)\nt = bpf.array(u32, 1)\nif bpf.xdp_metadata_rx_hash(ctx, h, t) == 0:\n    ts[0].numbers[0] = h[0]")
k("bpf_xdp_metadata_rx_vlan_tag", XDP, "p = bpf.array(u16, 1)\nv = bpf.array(u16, 1)\nif bpf.xdp_metadata_rx_vlan_tag(ctx, p, v) == 0:\n    ts[0].numbers[0] = v[0]")
