"""Names of hosts, networks, ports, protocols and stations, from the files of /etc.

No name server is asked: a filter means the same today and tomorrow, and compiling one sends nothing.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from skep.filter.addresses import aton, ipv4, ipv6

TCP: Final = 6
UDP: Final = 17
SCTP: Final = 132


class Port(NamedTuple):
    """``number`` and the IP protocol that has the name; None when both TCP and UDP give it this number."""

    number: int
    protocol: int | None


class Names:
    """The name files. A file that is absent or unreadable has no names; lines that make no sense are skipped.

    Each is read at the first question, once.
    """

    def __init__(
        self,
        *,
        hosts: str | os.PathLike[str] = "/etc/hosts",
        networks: str | os.PathLike[str] = "/etc/networks",
        services: str | os.PathLike[str] = "/etc/services",
        protocols: str | os.PathLike[str] = "/etc/protocols",
        ethers: str | os.PathLike[str] = "/etc/ethers",
    ) -> None:
        self.paths = {
            "hosts": os.fspath(hosts),
            "networks": os.fspath(networks),
            "services": os.fspath(services),
            "protocols": os.fspath(protocols),
            "ethers": os.fspath(ethers),
        }
        self._hosts: dict[str, list[tuple[int, int]]] | None = None
        self._networks: dict[str, int] | None = None
        self._services: dict[tuple[str, str], int] | None = None
        self._protocols: dict[str, int] | None = None
        self._ethers: dict[str, bytes] | None = None

    def _lines(self, which: str) -> list[list[str]]:
        try:
            # Not pathlib: importing it takes as long as compiling a usual expression.
            with open(self.paths[which], encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            return []
        rows = (line.partition("#")[0].split() for line in text.split("\n"))
        return [words for words in rows if len(words) > 1]

    def host(self, name: str) -> list[tuple[int, int]]:
        """(4 or 6, address) of all addresses of a host, or of an address in text. Case does not matter.

        ::1 comes first, then IPv6 before IPv4, else the file's order: RFC 6724's on a host with both.
        """
        number = aton(name)
        if number is not None:
            return [(4, number)]
        if ":" in name:
            six = ipv6(name)
            return [(6, six)] if six is not None else []
        if self._hosts is None:
            hosts: dict[str, list[tuple[int, int]]] = {}
            self._hosts = hosts
            for address, *spellings in self._lines("hosts"):
                four = aton(address)
                six = None if four is not None else ipv6(address.partition("%")[0])
                if four is not None:
                    value = 4, four
                elif six is not None:
                    value = 6, six
                else:
                    continue
                for spelling in spellings:
                    entry = hosts.setdefault(spelling.lower(), [])
                    if value not in entry:
                        entry.append(value)
        found = self._hosts.get(name.lower(), [])
        return sorted(found, key=lambda a: 0 if a == (6, 1) else 1 if a[0] == 6 else 2)

    def network(self, name: str) -> int | None:
        """The number of a network, filled up with zeros to 32 bits (loopback -> 0x7f000000)."""
        if self._networks is None:
            networks: dict[str, int] = {}
            self._networks = networks
            for spelling, address, *aliases in self._lines("networks"):
                parsed = ipv4(address)
                if parsed is None or parsed[1] > 32:
                    continue
                for word in (spelling, *aliases):
                    networks.setdefault(word.lower(), parsed[0] << 32 - parsed[1])
        return self._networks.get(name.lower())

    def port(self, name: str) -> Port | None:
        """A service of TCP or UDP by name, alias, or decimal number. Case matters."""
        if name.isascii() and name.isdigit():
            return Port(int(name[-40:]) & 0xFFFF, None)
        if self._services is None:
            services: dict[tuple[str, str], int] = {}
            self._services = services
            for spelling, entry, *aliases in self._lines("services"):
                number, _, protocol = entry.partition("/")
                if not (number.isascii() and number.isdigit() and len(number) < 9):
                    continue
                for word in (spelling, *aliases):
                    services.setdefault((word, protocol), int(number) & 0xFFFF)
        tcp = self._services.get((name, "tcp"))
        udp = self._services.get((name, "udp"))
        if tcp is not None:
            return Port(tcp, None if udp == tcp else TCP)
        return None if udp is None else Port(udp, UDP)

    def protocol(self, name: str) -> int | None:
        """An IP protocol by name or alias. Case matters."""
        if self._protocols is None:
            protocols: dict[str, int] = {}
            self._protocols = protocols
            for spelling, number, *aliases in self._lines("protocols"):
                if not (number.isascii() and number.isdigit() and len(number) < 9):
                    continue
                for word in (spelling, *aliases):
                    protocols.setdefault(word, int(number))
        return self._protocols.get(name)

    def station(self, name: str) -> bytes | None:
        """The six bytes of a station's hardware address, by name. Case does not matter."""
        if self._ethers is None:
            ethers: dict[str, bytes] = {}
            self._ethers = ethers
            for address, spelling, *_ in self._lines("ethers"):
                groups = address.split(":")
                if len(groups) != 6:
                    continue
                try:
                    octets = bytes(int(group, 16) for group in groups)
                except ValueError:
                    continue
                ethers.setdefault(spelling.lower(), octets)
        return self._ethers.get(name.lower())
