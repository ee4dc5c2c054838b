"""What programs that attach by BTF attach to: kernel functions, tracepoints, hooks, programs."""

from __future__ import annotations

import errno

from skep.errors import LinkError, NotSupported
from skep.uapi.attr import INFO
from skep.uapi.enums import AttachType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.kernel.externs import ExternTable
    from skep.kernel.program import Program
    from skep.obj.spec import ProgramSpec

_FUNC: Final = 12
_TYPEDEF: Final = 8
_PREFIXES: Final = {
    AttachType.TRACE_RAW_TP: ("btf_trace_", _TYPEDEF),
    AttachType.LSM_MAC: ("bpf_lsm_", _FUNC),
    AttachType.LSM_CGROUP: ("bpf_lsm_", _FUNC),
    AttachType.TRACE_ITER: ("bpf_iter_", _FUNC),
}
_MULTI: Final = frozenset(("fentry.multi", "fexit.multi", "fsession.multi"))


def needs_target(spec: ProgramSpec) -> bool:
    if spec.type in (ProgType.TRACING, ProgType.LSM):
        return spec.hook.removesuffix(".s") not in _MULTI
    return spec.type == ProgType.EXT


def attach_attr(spec: ProgramSpec, externs: ExternTable, target: str | Program | None) -> dict[str, Any]:
    """The fields of a load that say what the program attaches to.

    ``target``: a kernel function's name (instead of the section's), or for freplace and for tracing a BPF
    program, that `Program`. Raises LinkError when nothing says it, NotSupported when the kernel lacks it.
    """
    name = spec.attach_to
    if isinstance(target, str):
        name = target
    elif target is not None:
        return _of_program(spec, target, name)
    if spec.type == ProgType.EXT:
        raise LinkError(
            f"program {spec.name}: which program does it replace a function of? "
            f"pass targets={{{spec.name!r}: program}} to load"
        )
    if not name:
        raise LinkError(
            f"program {spec.name}: section {spec.section!r} does not say what to attach to: "
            f"pass targets={{{spec.name!r}: 'function'}} to load"
        )
    prefix, kind = _PREFIXES.get(spec.attach_type or AttachType.TRACE_FENTRY, ("", _FUNC))
    module, _, function = name.rpartition(":")
    wanted = prefix + function
    if not module or module == "vmlinux":
        id = externs.target.btf.find(wanted, kind)
        if id is not None:
            return {"attach_btf_id": id}
    if module != "vmlinux":
        for found, fd, btf in externs.modules():
            if module in ("", found):
                id = btf.find(wanted, kind)
                if id is not None and id >= btf.start_id:
                    return {"attach_btf_id": id, "attach_btf_obj_fd": fd}
    what = {"btf_trace_": "tracepoint", "bpf_lsm_": "LSM hook", "bpf_iter_": "iterator"}.get(
        prefix, "function"
    )
    hint = f"; targets={{{spec.name!r}: …}} names another" if what == "function" and target is None else ""
    raise NotSupported(
        errno.ESRCH,
        f"program {spec.name}: attaching to {what} {name!r} (not in the kernel's BTF{hint})",
    )


def _of_program(spec: ProgramSpec, target: Program, name: str) -> dict[str, Any]:
    from skep.kernel.open import btf_by_id

    info = INFO["bpf_prog_info"].unpack(target.kernel.obj_get_info_by_fd(target.fd, "prog"))
    btf_id = info.get("btf_id", 0)
    if not isinstance(btf_id, int) or not btf_id:
        raise LinkError(f"program {spec.name}: {target.name} has no BTF to find a function in")
    function = name or target.name
    id = btf_by_id(target.kernel, btf_id).find(function, _FUNC)
    if id is None:
        raise LinkError(f"program {spec.name}: {target.name} has no function {function!r}")
    return {"attach_prog_fd": target.fd, "attach_btf_id": id}
