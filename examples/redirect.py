"""Send the connections of a cgroup's processes somewhere else: a transparent proxy in ten lines.

sudo python examples/redirect.py /sys/fs/cgroup/some.slice 10.0.0.1:80 127.0.0.1:8080
"""

import ipaddress
import signal
import sys

import skep
from skep import bpf
from skep.bpf import be16, be32


@bpf.struct
class Endpoint:
    address: be32
    port: be16


targets = bpf.Hash(Endpoint, Endpoint, max_entries=1024)


@bpf.cgroup_connect4
def redirect(ctx: bpf.SockAddr) -> int:
    wanted = Endpoint(address=ctx.user_ip4, port=ctx.user_port)
    to = targets.lookup(wanted)
    if to is not None:
        ctx.user_ip4 = to.address
        ctx.user_port = to.port
    return 1


def endpoint(text: str) -> dict[str, int]:
    address, _, port = text.partition(":")
    return {"address": int(ipaddress.IPv4Address(address)), "port": int(port)}


def main() -> None:
    cgroup, before, after = sys.argv[1:4]
    with skep.load(redirect) as obj, obj.redirect.attach(cgroup=cgroup):
        obj.targets[endpoint(before)] = endpoint(after)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main()
