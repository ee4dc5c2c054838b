"""Programs and maps made for one network device: its card runs them, or they read its driver's metadata."""

from __future__ import annotations

import errno

from skep.errors import KernelError, LinkError
from skep.uapi.enums import ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.obj.spec import MapSpec, ProgramSpec

_XDP_DEV_BOUND_ONLY: Final = 64
_OFFLOADED: Final = (ProgType.XDP, ProgType.SCHED_CLS)


class Device:
    """What loading for a device adds to commands (linux/bpf.h: prog_ifindex, map_ifindex).

    Args:
        interface: a name, or an index, in the current network namespace.
        offload: the card runs the programs (Linux 4.15, maps 4.16); else the host does, and XDP programs may
            call the driver's metadata functions (bpf_xdp_metadata_rx_hash and its like, Linux 6.3).

    Raises:
        KernelError: ENODEV, no such interface.
    """

    __slots__ = ("index", "interface", "offload")

    def __init__(self, interface: str | int, *, offload: bool) -> None:
        self.interface = interface
        self.offload = offload
        if isinstance(interface, int):
            if not 0 < interface < 1 << 31:
                raise KernelError(errno.ENODEV, f"no network interface has index {interface}")
            self.index = interface
            return
        from _socket import if_nametoindex

        try:
            self.index = if_nametoindex(interface)
        except (OSError, ValueError, TypeError):
            raise KernelError(errno.ENODEV, f"no network interface is called {interface!r}") from None

    def program(self, spec: ProgramSpec) -> tuple[dict[str, Any], int]:
        """(attributes, flags) of loading a program. Raises LinkError: of a type that no card runs."""
        if self.offload:
            if spec.type not in _OFFLOADED:
                raise LinkError(
                    f"program {spec.name}: cards run XDP and tc programs, this is {spec.type.name.lower()}"
                )
            return {"prog_ifindex": self.index}, 0
        if spec.type != ProgType.XDP:
            return {}, 0
        return {"prog_ifindex": self.index}, _XDP_DEV_BOUND_ONLY

    def map(self, spec: MapSpec) -> int:
        """The device that a map is on: 0 is the host. Perf event arrays stay there, as in bpftool."""
        from skep.uapi.enums import MapType

        return self.index if self.offload and spec.type != MapType.PERF_EVENT_ARRAY else 0

    def refused(self, what: str, error: KernelError) -> KernelError:
        """The error for what was refused unseen: seldom more than that the device takes no programs."""
        if error.log or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            return error
        takes = "runs no programs itself" if self.offload else "has no metadata for programs, or is not up"
        error.reason = f"{what}: interface {self.interface} {takes}, or the kernel cannot ({error.reason})"
        return error


def chosen(offload: str | int | None, device: str | int | None) -> Device | None:
    """What the two options of a loader say. Raises LinkError when both are given."""
    if offload is not None and device is not None:
        raise LinkError("offload and device: a program runs on the card, or on the host beside the driver")
    if offload is not None:
        return Device(offload, offload=True)
    return Device(device, offload=False) if device is not None else None
