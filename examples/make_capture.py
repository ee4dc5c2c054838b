"""Record real traffic between two hosts made for the purpose: how examples/two-hosts.pcap came about.

    sudo python examples/make_capture.py [OUT.pcap]

Two network namespaces are joined by a cable (a veth pair). One side serves web pages on ports 80 and 8080,
names on port 53 and a few other things; the other asks: over IPv4 and IPv6, over a VLAN, in fragments, and
on closed ports. A packet socket on the server's end records both directions through skep's writer.
Nothing outside the two namespaces is touched, and they are gone afterwards. Needs root, `ip` and `ping`.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import http.client
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from skep.capture import Packet, PcapWriter

CLIENT, SERVER = f"skep-client-{os.getpid()}", f"skep-server-{os.getpid()}"
C4, S4, C6, S6 = "10.7.0.1", "10.7.0.2", "fd00:7::1", "fd00:7::2"
VLAN, CV, SV = 100, "10.7.100.1", "10.7.100.2"

SOL_PACKET, PACKET_AUXDATA, ETH_P_ALL = 263, 8, 0x0003
SO_TIMESTAMPNS = 35
SIOCETHTOOL, CLONE_NEWNET = 0x8946, 0x40000000
#: ETHTOOL_STXCSUM, _SSG, _STSO, _SGSO, _SGRO: with these off, frames are as a real cable would carry them
OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Sockets made by this thread meanwhile belong to the namespace, and stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as away:
        if libc.setns(away.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)


@contextlib.contextmanager
def two_hosts() -> Iterator[None]:
    """Both namespaces, the cable between them with addresses, and a VLAN on it."""
    for name in (CLIENT, SERVER):
        ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "netns", CLIENT, "type", "veth", "peer", "name", "eth0", "netns", SERVER)
        for name, four, six, vlan in ((CLIENT, C4, C6, CV), (SERVER, S4, S6, SV)):
            ip("-n", name, "link", "set", "lo", "up")
            with inside(name):
                no_offloads("eth0")
            ip("-n", name, "address", "add", f"{four}/24", "brd", "+", "dev", "eth0")
            ip("-n", name, "address", "add", f"{six}/64", "dev", "eth0", "nodad")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "add", "vlan", "type", "veth", "peer", "name", "trunk")
            with inside(name):
                no_offloads("vlan")
                no_offloads("trunk")
            ip("-n", name, "address", "add", f"{vlan}/24", "dev", "vlan")
            ip("-n", name, "link", "set", "vlan", "addrgenmode", "none")
            ip("-n", name, "link", "set", "trunk", "addrgenmode", "none")
            ip("-n", name, "link", "set", "vlan", "up")
            ip("-n", name, "link", "set", "trunk", "up")
            switch(name)
        yield
    finally:
        for name in (CLIENT, SERVER):
            ip("netns", "del", name)


def no_offloads(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS:
            value = array.array("I", [command, 0])
            request = struct.pack("16sQ8x", interface.encode(), value.buffer_info()[0])
            with contextlib.suppress(OSError):
                fcntl.ioctl(control, SIOCETHTOOL, request)


def packet_socket(name: str, interface: str) -> socket.socket:
    """A socket for every frame of an interface, sent or received, with what `whole_frame` needs."""
    with inside(name):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind((interface, ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    return made


def whole_frame(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The frame as on the cable: the kernel takes a VLAN tag out and hands it over apart."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tag, protocol = struct.unpack("IIIHHHH", data[:20])
            if status & 0x10:
                protocol = protocol if status & 0x40 else 0x8100
                return frame[:12] + struct.pack(">HH", protocol, tag) + frame[12:]
    return frame


def switch(name: str) -> None:
    """A VLAN port in user space (not every kernel has VLAN devices): trunk <-> tagged frames on eth0."""
    trunk, wire = packet_socket(name, "trunk"), packet_socket(name, "eth0")
    tag = struct.pack(">HH", 0x8100, VLAN)

    def relay(source: socket.socket, target: socket.socket) -> None:
        while True:
            frame, ancillary, _, address = source.recvmsg(65535, 256)
            if address[2] == socket.PACKET_OUTGOING:
                continue
            frame = whole_frame(frame, ancillary)
            if source is trunk:
                target.send(frame[:12] + tag + frame[12:])
            elif frame[12:16] == tag:
                target.send(frame[:12] + frame[16:])

    for pair in ((trunk, wire), (wire, trunk)):
        threading.Thread(target=relay, args=pair, daemon=True).start()


class Recorder(threading.Thread):
    """Writes every frame that the server's interface sends or receives, until stopped."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.writer = PcapWriter(path, linktype=1)
        self.count = 0
        self.stopped = False
        self.socket = packet_socket(SERVER, "eth0")
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.settimeout(0.2)

    def run(self) -> None:
        while not self.stopped:
            try:
                frame, ancillary, _, _ = self.socket.recvmsg(65535, 256)
            except TimeoutError:
                continue
            when = time.time_ns()
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                    seconds, nanoseconds = struct.unpack("qq", data[:16])
                    when = seconds * 10**9 + nanoseconds
            frame = whole_frame(frame, ancillary)
            self.writer.write(Packet(frame, len(frame), when, 1))
            self.count += 1
        self.socket.close()
        self.writer.close()


class Pages(http.server.BaseHTTPRequestHandler):
    """Pages of the size that their name says: /4000 has 4,000 bytes."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "skep-example/1", ""

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        size = self.path.strip("/")
        if size.isdigit():
            text = b"The quick brown fox jumps over the lazy dog.\n"
            self.answer(200, (text * (int(size) // len(text) + 1))[: int(size)])
        else:
            self.answer(404, b"no such page\n")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, b"thank you\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Web(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up with a reset is part of the show."""

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for its name.
        socket.socket.bind(self.socket, self.server_address)


class Web6(Web):
    address_family = socket.AF_INET6


def names(server: socket.socket) -> None:
    """A name server that knows A and AAAA of www.example.org, mail.example.org has neither."""
    while True:
        query, client = server.recvfrom(512)
        end = query.index(0, 12)
        (kind,) = struct.unpack_from(">H", query, end + 1)
        question = query[12 : end + 5]
        known = query[12:16] == b"\3www"
        address = {1: socket.inet_aton(S4), 28: socket.inet_pton(socket.AF_INET6, S6)}.get(kind, b"")
        answers = bool(known and address)
        head = query[:2] + struct.pack(">HHHHH", 0x8580 if known else 0x8583, 1, answers, 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, kind, 1, 300, len(address)) + address
        server.sendto(head + question + (record if answers else b""), client)


def echo(server: socket.socket) -> None:
    while True:
        data, client = server.recvfrom(65535)
        server.sendto(data, client)


def serve() -> None:
    """Start everything the server offers, in daemon threads."""
    with inside(SERVER):
        webs: list[Web] = [Web((S4, 80), Pages), Web((S4, 8080), Pages), Web((SV, 8080), Pages)]
        webs.append(Web6((S6, 80), Pages))
        sockets = [(socket.AF_INET, S4, 53, names), (socket.AF_INET6, S6, 53, names)]
        sockets += [
            (socket.AF_INET, S4, 7, echo),
            (socket.AF_INET6, S6, 7, echo),
            (socket.AF_INET, SV, 7, echo),
        ]
        for web in webs:
            threading.Thread(target=web.serve_forever, daemon=True).start()
        for family, address, port, what in sockets:
            server = socket.socket(family, socket.SOCK_DGRAM)
            server.bind((address, port))
            threading.Thread(target=what, args=(server,), daemon=True).start()


def browse(host: str, port: int, pages: list[str], *, post: int = 0) -> None:
    """One connection, several requests."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    with inside(CLIENT):
        connection.connect()
    for page in pages:
        connection.request("GET", page, headers={"User-Agent": "skep-example/1"})
        connection.getresponse().read()
    if post:
        connection.request("POST", "/form", body=b"x" * post)
        connection.getresponse().read()
    connection.close()


def ask(family: int, server: str, name: str, kind: int, number: int) -> None:
    query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0)
    query += b"".join(bytes((len(part),)) + part.encode() for part in name.split(".")) + b"\0"
    talk(family, server, 53, query + struct.pack(">HH", kind, 1))


def talk(family: int, host: str, port: int, data: bytes, *, wait: bool = True) -> None:
    """Send a datagram, and take the answer."""
    with inside(CLIENT):
        client = socket.socket(family, socket.SOCK_DGRAM)
    with client, contextlib.suppress(TimeoutError, ConnectionRefusedError):
        client.settimeout(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if host.startswith("224."):
            # Joining makes the kernel say so by IGMP; the interface must be named, there is no route.
            group = socket.inet_aton(host) + socket.inet_aton(C4)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(C4))
        if wait:
            client.connect((host, port))
            client.send(data)
            client.recv(65535)
        else:
            client.sendto(data, (host, port))
            time.sleep(0.05)


def knock(family: int, host: str, port: int, *, abort: bool = False) -> None:
    """Open a connection that is refused, or one that is given up with a reset."""
    with inside(CLIENT):
        client = socket.socket(family, socket.SOCK_STREAM)
    with client, contextlib.suppress(ConnectionRefusedError):
        client.connect((host, port))
        if abort:
            client.send(b"GET /100")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ping(host: str, *options: str) -> None:
    command = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "4", "-i", "0.05", *options, host]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def traffic() -> None:
    four, six = socket.AF_INET, socket.AF_INET6
    ping(S4)
    ping(S6)
    for number, (name, kind) in enumerate(
        [("www.example.org", 1), ("www.example.org", 28), ("mail.example.org", 1), ("www.example.org", 15)]
        * 4
    ):
        ask(four, S4, name, kind, number + 1)
    for number in range(4):
        ask(six, S6, "www.example.org", 28, 100 + number)
    browse(S4, 80, ["/120", "/4000", "/no-such-page", "/15000"])
    browse(S4, 8080, ["/64", "/256", "/1024", "/4096"], post=3000)
    browse(S6, 80, ["/500", "/9000"])
    browse(SV, 8080, ["/700", "/2800"], post=100)
    for number in range(16):
        browse(S4, (80, 8080)[number % 2], [f"/{100 + 150 * number}"])
    ping(SV)
    ping(S4, "-s", "4000")
    ping(S6, "-s", "3000")
    talk(four, S4, 7, bytes(range(256)) * 20)
    talk(six, S6, 7, bytes(range(256)) * 16)
    talk(four, SV, 7, b"through the VLAN")
    talk(four, S4, 9, b"nobody listens here")
    talk(six, S6, 9, b"nor here")
    talk(four, "10.7.0.255", 514, b"<13>to everybody", wait=False)
    talk(four, "224.0.0.251", 5353, b"\0" * 12, wait=False)
    knock(four, S4, 81)
    knock(six, S6, 81)
    knock(four, S4, 80, abort=True)


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "two-hosts.pcap")
    if os.geteuid():
        print("make_capture: network namespaces need root", file=sys.stderr)
        return 1
    with two_hosts():
        recorder = Recorder(path)
        recorder.start()
        try:
            serve()
            traffic()
            # What is still on its way: closing connections, reports.
            time.sleep(1.5)
        finally:
            recorder.stopped = True
            recorder.join()
    print(f"{path}: {recorder.count} packets, {os.path.getsize(path)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
