"""Every field of every context: those that the compiler takes load, and those that it refuses do not."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep.bpf.programs import hook, hook_names
from skep.errors import CompileError, VerifierError
from skep.lang.compile import compile_programs, to_ir
from skep.lang.contexts_fields import BOUNDS, OF_TYPE
from skep.loading import programs_of
from skep.obj.sections import lookup
from skep.uapi.contexts import CONTEXTS
from skep.uapi.enums import ProgType
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

pytestmark = pytest.mark.live
#: hooks of one program type and context that differ in nothing else
_SAME = ("tc_", "tcx_", "netkit_", "xdp_", "raw_tracepoint", "tp", "ingress", "egress", "cgroup_device")


def fields() -> dict[str, list[str]]:
    """By hook, the fields of its context that are plain numbers."""
    found: dict[str, list[str]] = {}
    for name in hook_names():
        made = hook(name)
        section = lookup(made.section) if made is not None and not made.takes_target else None
        struct = OF_TYPE.get(section.type) if section is not None else None
        if section is None or struct is None or name.startswith(_SAME) or section.type == ProgType.PERF_EVENT:
            continue
        layout = CONTEXTS[struct].fields
        found[name] = [
            f for f, (_, size, count) in layout.items() if f not in BOUNDS and not count and abs(size) < 8
        ]
    return found


def source(hook: str, field: str) -> str:
    name = f"{hook}__{field}"
    low = "1" if hook.startswith(("cgroup_recvmsg", "cgroup_getpeername", "cgroup_getsockname")) else "0"
    return f"@bpf.{hook}\ndef {name}(ctx) -> int:\n    out[0] = ctx.{field}\n    return {low}\n"


def test_every_field(tmp_path: Path) -> None:
    bpf()
    taken: list[str] = []
    refused: list[tuple[str, str]] = []
    head = HEADER + "out = bpf.Array(u64, 1)\n"
    for where, names in fields().items():
        text = head + "".join(source(where, field) for field in names)
        made = module(tmp_path, text, where)
        for field in names:
            try:
                to_ir([getattr(made, f"{where}__{field}")])
                taken.append(source(where, field))
            except CompileError as error:
                assert "programs of this type" in error.reason, error
                refused.append((where, field))
    assert len(taken) > 300 and len(refused) > 50
    path = tmp_path / "fields.bpf.o"
    path.write_bytes(compile_programs(programs_of(module(tmp_path, head + "\n".join(taken), "taken"))))
    with skep.load(str(path)) as obj:
        assert len(obj.programs) == len(taken)


def test_what_is_refused_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bpf()
    monkeypatch.setattr("skep.lang.contexts.ContextRef._readable", lambda *_: None)
    head = HEADER + "out = bpf.Array(u64, 1)\n"
    for where, field in (("tc", "family"), ("socket_filter", "tstamp"), ("xdp", "egress_ifindex")):
        made = module(tmp_path, head + source(where, field), f"{where}_{field}")
        with pytest.raises(VerifierError, match="invalid bpf_context access"):
            skep.load(made.__dict__[f"{where}__{field}"])


def test_writes_are_the_kernels(tmp_path: Path) -> None:
    for where, field, there in (
        ("cgroup_setsockopt", "level", True),
        ("cgroup_getsockopt", "level", False),
        ("cgroup_getsockopt", "retval", True),
        ("cgroup_setsockopt", "retval", False),
        ("tc", "tstamp", True),
        ("cgroup_connect4", "user_ip4", True),
        ("xdp", "rx_queue_index", False),
    ):
        text = f"{HEADER}@bpf.{where}\ndef main(ctx) -> int:\n    ctx.{field} = 1\n    return 1\n"
        made = module(tmp_path, text, f"{where}_{field}")
        if there:
            to_ir([made.main])
            continue
        with pytest.raises(CompileError, match=f"{field} cannot be set by a program of this type"):
            to_ir([made.main])
