"""`skep.Filter`: one packet, whole captures, NumPy's view of them, sockets."""

from __future__ import annotations

import array
import gzip
import io
import mmap
import socket
from pathlib import Path

import pytest

import skep
from skep import capture
from skep.capture.linktype_names import NAMES
from skep.capture.linktype_numbers import FILE_NUMBERS
from skep.errors import CaptureError, FilterSyntaxError, KernelError, PermissionDenied, SkepError
from tests.support import libpcap, pcapfiles
from tests.tap.support import insns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "in.pcap"
    found.write_bytes(pcapfiles.capture(pcapfiles.records(1500)))
    return found


def wanted(expression: str) -> list[int]:
    program = libpcap.Filter(insns(expression))
    return [i for i, (_, _, data, size) in enumerate(pcapfiles.records(1500)) if program(data, size)]


@pytest.mark.parametrize("expression", ["tcp port 80", "", "len > 800", "ip6 and not tcp"])
def test_matches_as_libpcap_does(expression: str) -> None:
    filter_ = skep.Filter(expression)
    program = libpcap.Filter(insns(expression))
    for _, _, data, wirelen in pcapfiles.records(1500):
        assert filter_.matches(data, wirelen) == bool(program(data, wirelen))
        assert filter_.keep(data, wirelen) in (0, 262144)
    assert filter_.matches(bytearray(data)) == filter_.matches(memoryview(data))


def test_run_gives_numbers_offsets_and_packets(path: Path) -> None:
    filter_ = skep.Filter("tcp port 80")
    data = path.read_bytes()
    packets = pcapfiles.records(1500)
    found = list(filter_.run(path))
    assert [match.number for match in found] == wanted("tcp port 80")
    for match in found:
        sec, fraction, packet, wirelen = packets[match.number]
        assert bytes(match.packet) == packet and match.length == len(packet)
        assert match.offset is not None and data[match.offset : match.offset + match.length] == packet
        assert (match.wirelen, match.time_ns) == (wirelen, sec * 10**9 + fraction * 1000)
        assert match.linktype == 1


def test_run_is_lazy(path: Path) -> None:
    """The first match comes without the rest of the file having been read."""
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    run = skep.Filter("").run(path)
    first = next(iter(run))
    assert first.number == 0
    with pytest.raises(CaptureError, match="at byte"):
        list(skep.Filter("").run(path))


@pytest.mark.parametrize("kind", ["gzip", "pcapng", "big", "reader"])
def test_other_captures(path: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    packets = pcapfiles.records(1500)
    source: str | Path | capture.Reader = other
    if kind == "gzip":
        other.write_bytes(gzip.compress(path.read_bytes()))
    elif kind == "big":
        other.write_bytes(pcapfiles.capture(packets, order=">"))
    elif kind == "pcapng":
        with capture.open(path) as reader, capture.PcapngWriter(other) as writer:
            for packet in reader:
                writer.write(packet)
    else:
        source = capture.open(path)
    found = [(match.number, bytes(match.packet)) for match in skep.Filter("udp").run(source)]
    assert found == [(number, packets[number][2]) for number in wanted("udp")]


def test_file_objects_and_readers_that_were_begun(path: Path) -> None:
    """A file object is read from where it is; of a reader, what it has not delivered is filtered."""
    filter_ = skep.Filter("tcp port 80")
    want = [match[2:] for match in filter_.run(path)]
    with path.open("rb") as file:
        assert [match[2:] for match in filter_.run(file)] == want
        file.seek(0)
        assert filter_.run(file).count() == len(want)
    assert filter_.run(io.BytesIO(gzip.compress(path.read_bytes()))).count() == len(want)
    late = [number for number in wanted("tcp port 80") if number >= 700]
    with capture.open(path) as reader:
        for _ in zip(range(700), reader, strict=False):
            pass
        assert [match.number + 700 for match in filter_.run(reader)] == late
    assert 0 < len(late) < len(want)


def test_count(path: Path) -> None:
    run = skep.Filter("tcp").run(path)
    assert run.count() == len(wanted("tcp"))
    assert run.seen == 1500


def test_numpy_views_without_copying(path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numbers: list[int] = []
    for batch in skep.Filter("tcp").run(path).batches():
        table = numpy.asarray(batch.table)
        assert not table.flags.owndata and table.dtype.names[0] == "number"
        octets = numpy.frombuffer(batch.data, "u1")
        assert (octets[table["offset"] + 12] == 8).mean() > 0.3  # EtherTypes 0x0800 begin with 8
        numbers += table["number"].tolist()
    assert numbers == wanted("tcp")


def test_programs_and_words() -> None:
    filter_ = skep.Filter("tcp port 80")
    assert [tuple(insn) for insn in filter_.cbpf] == [tuple(insn) for insn in insns("tcp port 80")]
    assert len(filter_.ebpf) > len(filter_.cbpf)
    assert repr(filter_) == "Filter('tcp port 80', linktype='EN10MB', 20 insns)"
    assert len(filter_.explain().splitlines()) == 20
    assert skep.Filter("tcp", linktype="RAW").linktype == 12


def test_refusals() -> None:
    with pytest.raises(FilterSyntaxError, match="column 11"):
        skep.Filter("tcp port (")
    with pytest.raises(SkepError, match="link type 'NOPE'"):
        skep.Filter("tcp", linktype="NOPE")


def test_attached_filter_decides_what_a_socket_receives() -> None:
    """On a UDP socket the packet begins with the UDP header: destination port, then bytes 8 and up."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        address = receiver.getsockname()
        sender.sendto(b"before", address)
        filter_ = skep.Filter("ether[8] = 0x6b")  # "k"
        assert filter_.attach(receiver) == "classic"
        for text in (b"drop", b"keep", b"never", b"kept"):
            sender.sendto(text, address)
        receiver.setblocking(False)
        got = [receiver.recv(100) for _ in range(2)]
        assert got == [b"keep", b"kept"]
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        filter_.detach(receiver)
        sender.sendto(b"drop", address)
        assert receiver.recv(100) == b"drop"
        with pytest.raises(KernelError, match="SO_DETACH_FILTER: the socket has no filter"):
            filter_.detach(receiver)


def test_detach_takes_off_either_form_and_no_locked_one() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        filter_ = skep.Filter("udp")
        filter_.attach(sock)
        sock.setsockopt(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER
        with pytest.raises(PermissionDenied, match="locked"):
            filter_.detach(sock)


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    filter_ = skep.Filter("tcp")
    for wrong in (None, 5, b"\xd4\xc3\xb2\xa1", ["a.pcap"]):
        with pytest.raises(TypeError, match=r"a path, a binary file object .* or a skep\.capture\.Reader"):
            filter_.run(wrong)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"binary file object \('rb'\): its read\(\) gave str"):
        list(filter_.run(io.StringIO("text")))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(CaptureError, match="'': No such file"):
        filter_.run("").count()
    missing = tmp_path / "missing.pcap"
    for path, reason in ((missing, "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CaptureError, match=reason) as caught:
            list(filter_.run(path))
        assert caught.value.path == str(path)
        with pytest.raises(CaptureError, match=reason):
            filter_.run(path).count()


@pytest.mark.parametrize("wirelen", [-1, 1 << 32, 1 << 64])
def test_lengths_on_the_wire_that_no_packet_has(wirelen: int) -> None:
    with pytest.raises(ValueError, match="0 to 2\\*\\*32 - 1"):
        skep.Filter("len > 5").matches(b"abc", wirelen)


def test_link_types_by_the_numbers_that_files_have() -> None:
    assert skep.Filter("ip", linktype=101).cbpf == skep.Filter("ip", linktype="RAW").cbpf
    for dlt, number in FILE_NUMBERS.items():
        assert number not in FILE_NUMBERS and number not in NAMES, "a number that stands for two link types"
        assert skep.Filter(linktype=number).linktype == dlt


def test_what_is_no_packet_is_refused() -> None:
    web = skep.Filter("len = 5")
    assert web.matches(bytearray(5)) and web.matches(memoryview(bytes(10))[::2])
    mapped = mmap.mmap(-1, 4096)
    assert skep.Filter("len = 4096").matches(mapped)  # type: ignore[arg-type]  # a buffer all the same
    assert skep.Filter("len = 8").matches(array.array("I", [1, 2]))  # type: ignore[arg-type]  # on purpose
    for wrong in (5, "frame", None, [1, 2], capture.Packet(b"", 0, 0, 1, 0, b"", 0)):
        with pytest.raises(TypeError, match=f"a packet is a buffer .* not {type(wrong).__name__}"):
            web.matches(wrong)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("snaplen", [0, 1 << 32, 1 << 40, -(1 << 40)])
def test_lengths_that_mean_no_match(snaplen: int) -> None:
    with pytest.raises(FilterSyntaxError, match="snapshot length"):
        skep.Filter("tcp", snaplen=snaplen)


def test_arguments_of_another_type_are_refused_by_name() -> None:
    for wrong in (None, 5, b"tcp"):
        with pytest.raises(TypeError, match="an expression is a str"):
            skep.Filter(wrong)  # type: ignore[arg-type]  # on purpose
        for call in (skep.Filter("tcp").attach, skep.Filter("tcp").detach):
            with pytest.raises(TypeError, match=r"a socket\.socket, not"):
                call(wrong)  # type: ignore[arg-type]  # on purpose
    for length in ("96", 96.0):
        with pytest.raises(TypeError, match="a snapshot length is an int"):
            skep.Filter("tcp", snaplen=length)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="wirelen is an int"):
            skep.Filter("tcp").matches(b"", length)  # type: ignore[arg-type]  # on purpose
    for link in (b"RAW", 1.0, ["RAW"]):
        with pytest.raises(TypeError, match="a link type without a name is an int"):
            skep.Filter("tcp", linktype=link)  # type: ignore[arg-type]  # on purpose


def test_numbers_may_be_numpys() -> None:
    numpy = pytest.importorskip("numpy")
    filter_ = skep.Filter("len > 10", snaplen=numpy.uint16(96), linktype=numpy.int64(1))
    assert filter_.keep(numpy.zeros(5, "u1"), numpy.int32(11)) == 96
    assert filter_.keep(numpy.zeros((40, 2), "u1")[::2, 1]) == 96


@pytest.mark.parametrize("expression", ["inbound", "not inbound", "tcp and ifindex 3"])
def test_what_only_the_kernel_knows_is_not_guessed(expression: str, path: Path) -> None:
    filter_ = skep.Filter(expression)
    with pytest.raises(SkepError, match="what the kernel alone knows"):
        filter_.matches(bytes(60))
    with pytest.raises(FilterSyntaxError):
        filter_.run(path).count()
    assert filter_.ebpf  # for a socket
    assert skep.Filter("inbound", linktype="LINUX_SLL2").matches(bytes(20)) is True


def test_filters_can_be_copied_and_sent_to_another_process(path: Path) -> None:
    import copy
    import pickle

    filter_ = skep.Filter("tcp port 80", snaplen=100)
    frame = next(data for _, _, data, _ in pcapfiles.records(1500) if filter_.matches(data))
    for other in (pickle.loads(pickle.dumps(filter_)), copy.copy(filter_), copy.deepcopy(filter_)):
        assert other.keep(frame) == 100
        assert other.run(path).count() == filter_.run(path).count()


@pytest.mark.parametrize("timeout", [None, 0.0, 30.0])
def test_a_timeout_does_not_slow_attaching(timeout: float | None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(timeout)
        receiver.sendto(b"before the filter", receiver.getsockname())
        assert skep.Filter("").attach(receiver) == "classic"  # with a timeout it raised TimeoutError
        assert receiver.gettimeout() == timeout
        receiver.sendto(b"after it", receiver.getsockname())
        receiver.settimeout(5)
        assert receiver.recv(100) == b"after it"


def test_a_socket_is_left_open_when_its_filter_is_too_large(tmp_path: Path) -> None:
    """The kernel charges a socket's filter to its option memory."""
    from tests.support.oracles import bpf

    bpf()
    names = tmp_path / "hosts"
    names.write_text("\n".join(f"{n % 200 + 1}.{n >> 8}.{n * 7 % 256}.{n * 13 % 251}" for n in range(3_000)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        with pytest.raises(KernelError, match="optmem_max"):
            skep.Filter(f"host in {names}", linktype="RAW").attach(receiver)
        receiver.sendto(b"still there", receiver.getsockname())
        assert receiver.recv(100) == b"still there"
