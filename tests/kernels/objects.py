"""Objects built once, outside, and what is to happen with each in every kernel."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

import skep
from skep.errors import NotSupported
from skep.kernel.overwrite import OverwriteRingBuf


def core(path: str) -> None:
    """CO-RE: fields of task_struct, wherever this kernel has them."""
    with skep.load(path, variables={"only": os.getpid()}) as obj:
        obj.attach()
        os.getppid()
        assert obj.bss.hits >= 1
        assert obj.bss.tgid == os.getpid() and obj.bss.parent == os.getppid()
        assert obj.bss.comm_size == 16
        comm = obj.bss.comm
        text = comm.encode() if isinstance(comm, str) else bytes(comm)
        assert text.rstrip(b"\0") == Path("/proc/self/comm").read_bytes().strip()


def replaced(path: str) -> None:
    """freplace: the function of a loaded program, at once and back again."""
    packet = bytes(64)
    other_path = path.replace("replaced", "replacing")
    with skep.load(path) as obj, skep.load(other_path, targets={"other": obj.entry}) as other:
        assert obj.entry.run(packet).retval == 3
        link = other.other.attach(obj.entry)
        assert obj.entry.run(packet).retval == 44
        link.close()
        assert obj.entry.run(packet).retval == 3


def congestion(path: str) -> None:
    """struct_ops: a congestion control that sockets choose by its name."""
    with skep.load(path) as obj:
        with obj.attach_struct_ops("skep_cc"), socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            with socket.socket() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"skep_cc")
                client.connect(server.getsockname())
                peer = server.accept()[0]
                for _ in range(4):
                    client.send(b"skep" * 1000)
                    peer.recv(1 << 16)
                peer.close()
            assert obj.bss.inits >= 1 and obj.bss.acks >= 1
        with socket.socket() as client:
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"skep_cc")
            except OSError:
                pass
            else:
                raise AssertionError("skep_cc is still there")


def usdt(path: str) -> None:
    """USDT: three arguments of known places and signs, found through the specs' map by itself."""
    if skep_version() < (5, 15):
        return
    library = f"{os.path.dirname(path)}/probes.so"
    with skep.load(path) as obj, obj.probe.attach(library, "skep", "open", pid=0, cookie=99):
        ctypes.CDLL(library).fire(-5)
        assert obj.bss.hits == 1 and obj.bss.cookie == 99
        assert list(obj.bss.seen) == [-5, -5000, 7], list(obj.bss.seen)


def overwrite(path: str) -> None:
    """A ring buffer in overwrite mode: the newest records, as many as fit."""
    if skep_version() < (6, 19):
        return
    with skep.load(path) as obj:
        reader = obj.reader("ring")
        assert isinstance(reader, OverwriteRingBuf)
        obj.write.run(bytes(64), repeat=1000)
        found = [record[:8] for record in reader.read()]
        numbers = [int.from_bytes(record, "little") for record in found]
        assert numbers == list(range(1000 - len(numbers), 1000)), numbers
        assert 90 < len(numbers) < 110 and reader.overwritten == (1000 - len(numbers)) * 40
        obj.write.run(bytes(64), repeat=2)
        assert len(reader.read()) == 2 and not reader.wait(0)


def jumps(path: str) -> None:
    """gotox: a jump table becomes an instruction array."""
    if skep_version() < (6, 19):
        try:
            skep.load(path)
        except NotSupported as error:
            assert error.since == "6.19", error
            return
        raise AssertionError("a jump table was loaded")
    with skep.load(path) as obj:
        for length, result in ((64, 10), (65, 11), (66, 12), (67, 11)):
            assert obj.jumps.run(bytes(length)).retval == result


def skep_version() -> tuple[int, int]:
    from skep.linux.kernel import LinuxKernel

    return LinuxKernel().version


STEPS: dict[str, Callable[[str], None]] = {
    "core": core,
    "replaced": replaced,
    "congestion": congestion,
    "usdt": usdt,
    "overwrite": overwrite,
    "jumps": jumps,
}
#: objects that the steps load besides their own
OTHERS = ("replacing",)
