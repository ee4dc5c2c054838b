"""Extract what a kernel's sources say about helper prototypes into tools/data/helper_protos.txt.

    python tools/kernel_protos.py 6.12=linux-6.12 7.2=linux-7.2

Two tables come out, facts only. `proto NAME VERSIONS gpl|any FLAGS RETURN ARG1 … ARG5` is one prototype,
each argument as its kind with flags and the type or size it names; `VERSIONS` are the sources that have it.
`calls GROUP HELPER NAME…` says which prototype a group of program types gets for a helper (several where
the attach type or a sleepable program decides), `any` standing for the groups that are not named: whether a
type may call a helper at all is found by asking kernels. `nulls TRACEPOINT MASK` says which arguments of a
tracepoint may be NULL (1) or an error (2), four bits each. tools/gen_verifier.py makes Python of the tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

# ruff: noqa: E501 (what is written out stays whole)
DATA = Path(__file__).parent / "data"
#: group of program types -> the functions that answer for it, first to last
GROUPS = {
    "socket_filter": ["sk_filter_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "cgroup_skb": ["cgroup_common_func_proto", "cg_skb_func_proto", "sk_filter_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "sched": ["tc_cls_act_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "xdp": ["xdp_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "cgroup_sock": ["cgroup_common_func_proto", "sock_filter_func_proto", "bpf_base_func_proto"],
    "cgroup_sock_addr": ["cgroup_common_func_proto", "sock_addr_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "sock_ops": ["cgroup_common_func_proto", "sock_ops_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "sk_msg": ["sk_msg_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "sk_skb": ["sk_skb_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "flow_dissector": ["flow_dissector_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "lwt_out": ["lwt_out_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "lwt_in": ["lwt_in_func_proto", "lwt_out_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "lwt_xmit": ["lwt_xmit_func_proto", "lwt_out_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "lwt_seg6local": ["lwt_seg6local_func_proto", "lwt_out_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "sk_reuseport": ["sk_reuseport_func_proto", "bpf_base_func_proto"],
    "sk_lookup": ["sk_lookup_func_proto", "bpf_sk_base_func_proto", "bpf_base_func_proto"],
    "cgroup_device": ["cgroup_common_func_proto", "cgroup_dev_func_proto", "bpf_base_func_proto"],
    "cgroup_sysctl": ["cgroup_common_func_proto", "sysctl_func_proto", "bpf_base_func_proto"],
    "cgroup_sockopt": ["cgroup_common_func_proto", "cg_sockopt_func_proto", "bpf_base_func_proto"],
    "kprobe": ["kprobe_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto"],
    "tracepoint": ["tp_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto"],
    "perf_event": ["pe_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto"],
    "raw_tracepoint": ["raw_tp_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto"],
    "tracing": ["tracing_prog_func_proto", "raw_tp_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto", "bpf_iter_tcp_get_func_proto"],
    "lsm": ["cgroup_common_func_proto", "bpf_lsm_func_proto", "tracing_prog_func_proto", "raw_tp_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto"],
    "syscall": ["syscall_prog_func_proto", "tracing_prog_func_proto", "raw_tp_prog_func_proto", "bpf_tracing_func_proto", "bpf_base_func_proto"],
    "lirc_mode2": ["lirc_mode2_func_proto", "bpf_base_func_proto"],
    "netfilter": ["bpf_nf_func_proto", "bpf_base_func_proto"],
    "struct_ops": ["bpf_tcp_ca_get_func_proto", "bpf_base_func_proto"],
}  # fmt: skip
#: helpers that calls in other functions add, as cgroup_current_func_proto did up to 6.14
EXTRA = {"cgroup_": "cgroup_current_func_proto"}
SIZES = {"u64": 8, "s64": 8, "u32": 4, "long": 8, "unsigned long": 8, "struct iphdr": 20, "struct ipv6hdr": 40,
         "struct tcphdr": 20, "struct bpf_pidns_info": 8}  # fmt: skip


def strip(text: str) -> str:
    return re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", " ", text, flags=re.S))


class Sources:
    """One kernel's .c files, comments removed."""

    def __init__(self, root: Path) -> None:
        paths = [*root.glob("kernel/**/*.c"), *root.glob("net/**/*.c"), *root.glob("fs/**/*.c")]
        paths += root.glob("drivers/media/rc/*.c")
        self.files = [strip(p.read_text(errors="replace")) for p in sorted(paths)]
        self.files = [t for t in self.files if "bpf_func_proto" in t or "BTF_ID" in t]
        self.btf = self._btf_ids(root)

    def _btf_ids(self, root: Path) -> dict[str, str]:
        out: dict[str, str] = {}
        header = (root / "tools/include/linux/btf_ids.h").read_text()
        for name, struct in re.findall(r"BTF_SOCK_TYPE\((BTF_SOCK_TYPE_\w+),\s*(\w+)\)", header):
            out[f"btf_sock_ids[{name}]"] = struct
        for name, struct in re.findall(r"BTF_TRACING_TYPE\((BTF_TRACING_TYPE_\w+),\s*(\w+)\)", header):
            out[f"btf_tracing_ids[{name}]"] = struct
        out.setdefault("btf_tracing_ids[BTF_TRACING_TYPE_TASK]", "task_struct")
        out["tcp_sock_id"] = "tcp_sock"  # found at boot
        for text in self.files:
            for name, struct in re.findall(r"BTF_ID_LIST\w*_SINGLE\((\w+),\s*struct,\s*(\w+)\)", text):
                out[f"{name}[0]"] = out[name] = struct
            for name, body in re.findall(r"BTF_ID_LIST\w*\((\w+)\)((?:\s*BTF_ID\w*\([^)]*\))+)", text):
                for i, struct in enumerate(re.findall(r"BTF_ID\(struct,\s*(\w+)\)", body)):
                    out[f"{name}[{i}]"] = struct
                    if not i:
                        out[name] = struct
        return out

    def protos(self) -> Iterator[tuple[str, dict[str, str]]]:
        for text in self.files:
            for name, body in re.findall(r"const struct bpf_func_proto (\w+)\s*=\s*\{(.*?)\n\};", text, re.S):
                yield name, dict(re.findall(r"\.(\w+)\s*=\s*([^,]+?)\s*(?:,|$)", body))

    def null_arguments(self) -> dict[str, int]:
        """tracepoint -> four bits for each argument: 1 it may be NULL, 2 it may be an error."""
        for text in self.files:
            table = re.search(r"raw_tp_null_args\[\] = \{(.*?)\n\};", text, re.S)
            if table:
                rows = re.findall(r"\{ \"(\w+)\", ([^}]*?) \}", table[1])
                return {name: sum(int(m, 16) for m in mask.split("|")) for name, mask in rows}
        return {}

    def function(self, name: str) -> str:
        for text in self.files:
            m = re.search(rf"\n{name}\(enum bpf_func_id func_id,[^)]*\)\s*\{{(.*?)\n\}}", text, re.S)
            if m and not ("syscall_prog_func_proto" in text and name == "tracing_prog_func_proto"):
                return m[1]
        return ""

    def calls(self, function: str) -> dict[str, list[str]]:
        """helper -> prototypes that a function returns for it, in the order of its text."""
        out: dict[str, list[str]] = {}
        waiting: list[str] = []
        pattern = r"case BPF_FUNC_(\w+):|(default):|&(\w*proto\w*)|return (\w+_proto)\(\)|return (NULL);|return (bpf_get_\w+_proto)\(func_id\)"
        nested = 0
        text = self.function(function)
        for m in re.finditer(pattern + r"|(switch)|(\})", text):
            helper, default, proto, getter, null, chosen, switch, close = m.groups()
            if switch:
                nested += 1
            elif close:
                nested = max(0, nested - 1)
            elif helper:
                if waiting and out.get(waiting[-1]):
                    waiting = []
                waiting.append(helper)
                out.setdefault(helper, [])
            elif (default or null) and nested <= 1:
                waiting = []
            elif chosen:  # a function that picks by the helper's number
                for h in waiting:
                    out[h] = [f"bpf_{h}_proto"]
            else:
                found = proto or (getter and getter.replace("bpf_get_", "bpf_", 1))
                if found and not null:
                    for h in waiting:
                        if found not in out[h]:
                            out[h].append(found)
        return {h: p for h, p in out.items() if p}


def kind(text: str) -> str:
    """ARG_PTR_TO_MEM | MEM_RDONLY as PTR_TO_MEM|MEM_RDONLY, with the _OR_NULL and similar names opened."""
    flags: list[str] = []
    base = ""
    for part in re.split(r"\s*\|\s*", text.strip()):
        name = part
        if name.startswith(("ARG_", "RET_")):
            name = name[4:]
            if name.endswith("_OR_NULL"):
                name = name.removesuffix("_OR_NULL")
                flags.append("MAYBE_NULL")
            if name == "PTR_TO_UNINIT_MEM":
                name = "PTR_TO_MEM"
                flags += ["MEM_UNINIT", "MEM_WRITE"]
            elif name == "PTR_TO_FIXED_SIZE_MEM":
                name = "PTR_TO_MEM"
                flags.append("MEM_FIXED_SIZE")
            elif name == "PTR_TO_RINGBUF_MEM" and text.startswith("RET_"):
                name = "PTR_TO_MEM"
                flags.append("MEM_RINGBUF")
            elif name == "PTR_TO_DYNPTR_MEM":
                name = "PTR_TO_MEM"
            elif name == "PTR_TO_BTF_ID_TRUSTED":
                name = "PTR_TO_BTF_ID"
                flags.append("PTR_TRUSTED")
            base = name
        else:
            flags.append(name.replace("DYNPTR_TYPE_", "DYNPTR_").replace("PTR_MAYBE_NULL", "MAYBE_NULL"))
    return "|".join([base, *dict.fromkeys(flags)])


def row(name: str, fields: dict[str, str], btf: dict[str, str]) -> str:
    def named(key: str) -> str:
        value = fields.get(f"{key}_btf_id", "").lstrip("&")
        if value == "BPF_PTR_POISON":
            return ":*"
        return f":{btf.get(value, '?' + value)}" if value else ""

    flags = [f for f in ("pkt_access", "might_sleep", "allow_fastcall") if fields.get(f) == "true"]
    if "allowed" in fields:
        flags.append("allowed=" + fields["allowed"])
    cells = [name, "gpl" if fields.get("gpl_only") == "true" else "any", ",".join(flags) or "-"]
    cells.append(kind(fields.get("ret_type", "RET_INTEGER")) + named("ret"))
    for n in range(1, 6):
        want = fields.get(f"arg{n}_type")
        if want is None:
            break
        cell = kind(want) + named(f"arg{n}")
        size = fields.get(f"arg{n}_size")
        if size:
            inner = re.sub(r"sizeof\((.*)\)", r"\1", size)
            cell += f"={SIZES[inner] if inner in SIZES else int(size, 0)}"
        cells.append(cell)
    return " ".join(cells)


def main(args: list[str]) -> None:
    protos: dict[str, list[str]] = {}
    calls: dict[str, dict[str, str]] = {}
    nulls: dict[str, int] = {}
    for arg in args:  # newer sources come later and win
        version, _, root = arg.partition("=")
        sources = Sources(Path(root))
        nulls |= sources.null_arguments()
        for name, fields in sources.protos():
            protos.setdefault(row(name, fields, sources.btf), []).append(version)
        for group, functions in GROUPS.items():
            taken: dict[str, list[str]] = {}
            chain = [*functions]
            for prefix, extra in EXTRA.items():
                if group.startswith(prefix):
                    chain.insert(1, extra)
            for function in chain:
                for helper, found in sources.calls(function).items():
                    taken.setdefault(helper, found)
            for helper, found in taken.items():
                calls.setdefault(helper, {})[group] = " ".join(found)
    lines = [f"proto {','.join(v)} {text}" for text, v in sorted(protos.items())]
    for helper, by_group in sorted(calls.items()):
        texts = list(by_group.values())
        common = max(sorted(set(texts)), key=texts.count)
        lines.append(f"calls any {helper} {common}")
        lines += [f"calls {g} {helper} {t}" for g, t in by_group.items() if t != common]
    lines += [f"nulls {name} {mask:#x}" for name, mask in sorted(nulls.items())]
    (DATA / "helper_protos.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
