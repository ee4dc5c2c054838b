"""pcapng files against libpcap where it reads them, against tshark and scapy where it does not."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from skep.capture import linktypes
from skep.capture.packet import Packet
from tests.capture import offline
from tests.capture.build import block, epb, frame, idb, options, pb, rng, shb, spb
from tests.capture.common import Read, agree
from tests.capture.offline import MICRO, NANO
from tests.support.oracles import tool

RESOLUTIONS = [0, 1, 3, 6, 7, 9, 10, 12, 19, 0x80, 0x81, 0x8A, 0x94, 0x9E, 0xA0, 0xA2]
OFFSETS = [0, 1, 1_700_000_000, -1, -(1 << 62)]


def tsresol(value: int) -> tuple[int, bytes]:
    return 9, bytes((value,))


def tsoffset(order: str, value: int) -> tuple[int, bytes]:
    return 14, struct.pack(order + "q", value)


def file(order: str, random_: random.Random, *, count: int = 20) -> bytes:
    """One section as libpcap reads it: interfaces alike but for time, every kind of packet and block."""
    parts = [shb(order, (4, b"test"), version=(1, random_.choice((0, 2))))]
    kinds = 0
    for number in range(count):
        if not kinds or random_.random() < 0.1:
            parts.append(
                idb(
                    order,
                    (2, b"eth%d" % number),
                    tsresol(random_.choice(RESOLUTIONS)),
                    tsoffset(order, random_.choice(OFFSETS)),
                    snaplen=1000,
                )
            )
            kinds += 1
        data = frame(random_, random_.choice((0, 1, 2, 3, 4, 60, 999, 1000)))
        stamp = random_.choice((0, 1, random_.getrandbits(40), random_.getrandbits(64)))
        interface = random_.randrange(kinds)
        choice = random_.randrange(8)
        if choice == 0:
            parts.append(spb(order, data, len(data) + (500 if len(data) == 1000 else 0)))
        elif choice == 1:
            parts.append(pb(order, data, (1, b"old"), interface=interface, stamp=stamp))
        elif choice == 2:
            parts.append(block(order, random_.choice((4, 5, 10, 0xBAD, 0x80000001)), random_.randbytes(16)))
        else:
            comment = [(1, b"comment %d" % number)] * random_.randrange(3)
            flags = (2, struct.pack(order + "I", 1))
            parts.append(
                epb(
                    order, data, *comment, flags, interface=interface, stamp=stamp, wirelen=len(data) + number
                )
            )
    return b"".join(parts)


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
def test_as_libpcap_reads_them(order: str) -> None:
    for case in range(60):
        data = file(order, rng(order, case))
        for precision in (MICRO, NANO):
            oracle = offline.read(data, precision)
            assert not oracle.error
            agree(Read(data, size=61 if case % 2 else 1 << 18), oracle, precision)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("resolution", [*RESOLUTIONS, 0xA8, 0xBF])
def test_times_are_exact(order: str, resolution: int) -> None:
    """Worked out with fractions, also where libpcap's 64-bit arithmetic overflows."""
    units = 1 << (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    random_ = rng(order, resolution)
    stamps = [0, 1, units, units - 1, (1 << 64) - 1, *(random_.getrandbits(64) for _ in range(20))]
    for offset in OFFSETS:
        head = [shb(order), idb(order, tsresol(resolution), tsoffset(order, offset))]
        read = Read(b"".join([*head, *(epb(order, b"", stamp=stamp) for stamp in stamps)]))
        assert [p.time_ns for p in read.packets] == [
            offset * 10**9 + stamp * 10**9 // units for stamp in stamps
        ]


def mixed(random_: random.Random) -> bytes:
    """Sections of both byte orders; interfaces of different link type, snapshot length and resolution."""
    parts = []
    for _ in range(4):
        order = random_.choice("<>")
        parts.append(shb(order, (1, b"a section"), length=random_.choice((-1, 0))))
        links = [random_.choice((1, 101, 113, 0, 105)) for _ in range(random_.randrange(1, 4))]
        parts += [
            idb(
                order,
                (2, b"if%d" % number),
                tsresol(random_.choice((3, 6, 9, 0x8A))),
                linktype=link,
                snaplen=random_.choice((0, 70, 262144)),
            )
            for number, link in enumerate(links)
        ]
        for number in range(10):
            data = frame(random_, random_.choice((20, 40, 61, 70)))
            parts.append(
                epb(
                    order,
                    data,
                    (1, b"c%d" % number),
                    interface=random_.randrange(len(links)),
                    stamp=random_.getrandbits(34),
                    wirelen=len(data) + 5,
                )
            )
    return b"".join(parts)


#: not the interface's name, which tshark 4.0 mixes up between sections; a wrong interface shows in the time
TSHARK = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment"]


@pytest.mark.oracle
def test_mixed_sections_against_tshark(tmp_path: Path) -> None:
    tshark = tool("tshark")
    for case in range(3):
        data = mixed(rng("mixed", case))
        path = tmp_path / "mixed.pcapng"
        path.write_bytes(data)
        fields = [part for field in TSHARK for part in ("-e", field)]
        run = subprocess.run(
            [tshark, "-r", path, "-T", "fields", "-E", "separator=|", *fields],
            capture_output=True,
            text=True,
            check=True,
        )
        read = Read(data)
        assert not read.error
        ours = []
        for packet in read.packets:
            sec, ns = divmod(packet.time_ns, 10**9)
            ours.append((sec, ns, packet.wirelen, len(packet.data), "".join(packet.comments)))
        theirs = []
        for line in run.stdout.splitlines():
            time, wirelen, caplen, comment = line.split("|")
            sec, _, fraction = time.partition(".")
            theirs.append((int(sec), int(fraction.ljust(9, "0")), int(wirelen), int(caplen), comment))
        assert ours == theirs


@pytest.mark.oracle
def test_mixed_sections_one_by_one_against_libpcap() -> None:
    """What libpcap refuses as a whole it reads interface by interface."""
    for case in range(20):
        data = mixed(rng("one by one", case))
        read = Read(data)
        assert not read.error
        assert read.reader
        for index, interface in enumerate(read.reader.interfaces):
            order = "<" if interface.byteorder == "little" else ">"
            single = [
                shb(order),
                idb(
                    order,
                    *interface.options,
                    linktype=linktypes.to_file(interface.linktype),
                    snaplen=interface.snaplen,
                ),
            ]
            chosen = [packet for packet in read.packets if packet.interface == index]
            for packet in chosen:
                high, low = struct.unpack_from(order + "II", packet.block, 12)
                single.append(epb(order, packet.data, stamp=high << 32 | low, wirelen=packet.wirelen))
            oracle = offline.read(b"".join(single))
            assert not oracle.error
            assert oracle.linktype == interface.linktype
            part = Read(b"")
            part.packets, part.error = chosen, None
            agree(part, oracle, NANO)


def test_scapy_writes_what_we_read(tmp_path: Path) -> None:
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgReader, PcapNgWriter

    random_ = rng("scapy")
    path = str(tmp_path / "scapy.pcapng")
    frames = []
    with PcapNgWriter(path) as writer:
        for number in range(50):
            packet = Ether(frame(random_, 60 + number))
            packet.time = 1_700_000_000 + number / 4
            packet.comment = f"number {number}"
            writer.write(packet)
            frames.append(bytes(packet))
    read = Read(Path(path).read_bytes())
    assert not read.error
    assert [packet.data for packet in read.packets] == frames
    assert [packet.time_ns for packet in read.packets] == [
        1_700_000_000 * 10**9 + number * 250_000_000 for number in range(50)
    ]
    assert [packet.comments for packet in read.packets] == [[f"number {number}"] for number in range(50)]
    again = [bytes(packet) for packet in PcapNgReader(path)]
    assert again == frames


def test_blocks_and_options_are_kept() -> None:
    for order in "<>":
        names = block(order, 4, struct.pack(order + "HH", 0, 0))
        secrets = block(order, 10, struct.pack(order + "II", 0x544C534B, 4) + b"key\n")
        custom = block(order, 0xBAD, struct.pack(order + "I", 32473) + b"data")
        statistics = block(order, 5, struct.pack(order + "III", 0, 1, 2))
        unknown = block(order, 0x7FFFFFFF, b"")
        head = shb(order, (2, b"hardware"), (3, b"os"), (1, b"comment"))
        interface = idb(order, (2, b"eth0\0"), (3, "Gerät".encode()), (11, b"\0tcp"))
        flags, packet_id = (2, b"\1\2\3\4"), (5, b"12345678")
        packet = epb(order, b"abcde", (1, b"one"), flags, (1, "zwei ä".encode()), packet_id)
        read = Read(b"".join([head, names, interface, secrets, packet, custom, statistics, unknown]))
        assert not read.error
        kinds = [0x0A0D0D0A, 4, 1, 10, 0xBAD, 5, 0x7FFFFFFF]
        assert [found.type for found in read.blocks] == kinds
        assert [found.raw for found in read.blocks] == [
            head,
            names,
            interface,
            secrets,
            custom,
            statistics,
            unknown,
        ]
        assert read.blocks[0].offset == 0
        assert read.blocks[-1].body == b""
        assert read.reader
        assert read.reader.interfaces[0].name == "eth0"
        assert read.reader.interfaces[0].description == "Gerät"
        assert read.packets[0].comments == ["one", "zwei ä"]
        assert read.packets[0].options == [(1, b"one"), flags, (1, "zwei ä".encode()), packet_id]
        assert read.packets[0].block == packet


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
def test_refusals(order: str) -> None:
    """One bad thing each; libpcap refuses all of them, after the same packets."""
    head, interface, good = shb(order), idb(order, snaplen=100), epb(order, b"good")
    long = 16 << 20
    bad = {
        "no interface": head,
        "packet first": head + good,
        "undeclared": head + interface + good + epb(order, b"x", interface=1),
        "undeclared in the second section": head + interface + good + head + good,
        "longer than snaplen": head + interface + good + epb(order, bytes(101)),
        "longer than its block": head + interface + good + epb(order, bytes(8), caplen=50),
        "4 GiB": head + interface + good + epb(order, bytes(8), caplen=0xFFFFFFFF),
        "length 0": head + interface + good + struct.pack(order + "II", 6, 0) + bytes(40),
        "length 8": head + interface + good + struct.pack(order + "II", 6, 8) + bytes(40),
        "length 33": head + interface + good + struct.pack(order + "II", 6, 33) + bytes(40),
        "length over the limit": head
        + interface
        + good
        + struct.pack(order + "II", 6, long + 4)
        + bytes(long),
        "length 4 GiB": head + interface + good + struct.pack(order + "II", 6, 0xFFFFFFFC) + bytes(40),
        "two lengths": head + interface + good + good[:-4] + b"\0\0\0\0",
        "cut": head + interface + good + good[:-1],
        "short EPB": head + interface + good + block(order, 6, bytes(16)),
        "short PB": head + interface + good + block(order, 2, bytes(16)),
        "short SPB": head + interface + good + block(order, 3, b""),
        "SPB that lies": head + interface + good + spb(order, bytes(20), 90),
        "short IDB": head + interface + good + block(order, 1, bytes(4)),
        "short SHB": head + interface + good + block(order, 0x0A0D0D0A, head[8:20]),
        "resolution 10^20": head + idb(order, tsresol(20)) + good,
        "resolution 2^64": head + idb(order, tsresol(0xC0)) + good,
        "two resolutions": head + idb(order, tsresol(6), tsresol(6)) + good,
        "long resolution": head + idb(order, (9, b"\6\6")) + good,
        "short offset": head + idb(order, (14, b"1234")) + good,
        "two offsets": head + idb(order, tsoffset(order, 0), tsoffset(order, 0)) + good,
        "option cut short": head
        + block(order, 1, interface[8:16] + struct.pack(order + "HH", 2, 8) + b"etc\0"),
        "end mark with content": head
        + block(order, 1, interface[8:16] + struct.pack(order + "HH", 0, 4) + b"etc\0"),
        "version 2.0": shb(order, version=(2, 0)) + interface + good,
        "version 1.1": shb(order, version=(1, 1)) + interface + good,
        "later version 2.0": head + interface + good + shb(order, version=(2, 0)),
        "bad magic later": head + interface + good + head[:8] + b"????" + head[12:],
        "SHB of 24": struct.pack(order + "III", 0x0A0D0D0A, 24, 0x1A2B3C4D) + bytes(100),
        "SHB over 1 MiB": struct.pack(order + "III", 0x0A0D0D0A, (1 << 20) + 4, 0x1A2B3C4D) + bytes(2 << 20),
        "SHB cut": head[:-2],
        "line ends only": b"\n\r\r\n" + bytes(40),
    }
    for name, data in bad.items():
        read, oracle = Read(data), offline.read(data)
        assert oracle.error, name
        assert read.error, name
        agree(read, oracle, NANO)


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
def test_odd_but_accepted(order: str) -> None:
    head, interface, good = shb(order), idb(order, snaplen=100), epb(order, b"good")
    odd = {
        "no packets": head + interface,
        "first section's lengths differ": head[:-4] + b"\1\2\3\4" + interface + good,
        "version 1.2": shb(order, version=(1, 2)) + interface + good,
        "later minor version": head + interface + good + shb(order, version=(1, 9)) + interface + good,
        "damaged packet options": head + interface + block(order, 6, good[8:-4] + b"\1\0\xff\xff"),
        "no end mark": head + block(order, 1, interface[8:-4] + options(order, (2, b"eth0"))[:-4]) + good,
        "junk behind end mark": head + block(order, 1, interface[8:-4] + bytes(4) + b"\1\0\xff\xff") + good,
        "unpadded packet": head
        + interface
        + block(order, 6, struct.pack(order + "5I", 0, 0, 1, 4, 4) + b"good"),
        "snaplen 0": head + idb(order, snaplen=0) + epb(order, bytes(262144)),
        "snaplen -1": head + idb(order, snaplen=0xFFFFFFFF) + epb(order, bytes(262144)),
        "D-Bus": head + idb(order, snaplen=0, linktype=231) + epb(order, bytes(17 << 20)),
        "a block of 16 MiB": head + interface + block(order, 99, bytes((16 << 20) - 12)) + good,
    }
    for name, data in odd.items():
        read, oracle = Read(data), offline.read(data)
        assert not oracle.error, name
        assert not read.error, name
        agree(read, oracle, NANO)


def test_many_interfaces_stay_small() -> None:
    """Too many descriptions are refused; very long ones lose their options but work."""
    same = Read(shb("<") + idb("<") * 262_145)
    assert same.error
    assert "262144" in str(same.error)
    long = b"".join(idb("<", *[(1, bytes(60000))] * 200, (2, b"%d" % number)) for number in range(3))
    read = Read(shb("<") + long + epb("<", b"x", interface=2))
    assert not read.error
    assert len(read.packets) == 1
    assert read.reader
    assert read.reader.interfaces[0].options
    assert not read.reader.interfaces[2].options


def test_packet_values() -> None:
    packet = Packet(b"abc", 5, 7, 1)
    assert (packet.caplen, packet.options, packet.comments) == (3, [], [])
