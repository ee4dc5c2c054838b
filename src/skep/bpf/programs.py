"""The decorators that make a function a program: one per hook, each only a record.

A hook's name is libbpf's section name with underscores: ``@bpf.cgroup_connect4`` is section
``cgroup/connect4``. ``@bpf.kprobe("do_exit")`` adds where to attach, ``sleepable=True`` the ``.s``.
"""

from __future__ import annotations

from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Hooks whose section takes where to attach after a slash; those that also exist sleepable have ".s".
_TARGETS = """
kprobe kretprobe ksyscall kretsyscall uprobe.s uretprobe.s usdt.s
kprobe.multi kretprobe.multi kprobe.session uprobe.multi.s uretprobe.multi.s uprobe.session.s
tracepoint.s raw_tp.s raw_tp.w tp_btf.s fentry.s fexit.s fmod_ret.s fsession.s freplace
lsm.s lsm_cgroup iter.s struct_ops.s
"""
_PLAIN = """
xdp xdp/devmap xdp/cpumap tc tc/ingress tc/egress tcx/ingress tcx/egress netkit/primary netkit/peer action
perf_event lwt_in lwt_out lwt_xmit lwt_seg6local sockops sk_skb/stream_parser sk_skb/stream_verdict
sk_skb/verdict sk_msg lirc_mode2 flow_dissector cgroup_skb/ingress cgroup_skb/egress cgroup/skb
cgroup/sock_create cgroup/sock_release cgroup/post_bind4 cgroup/post_bind6 cgroup/bind4 cgroup/bind6
cgroup/connect4 cgroup/connect6 cgroup/connect_unix cgroup/sendmsg4 cgroup/sendmsg6 cgroup/sendmsg_unix
cgroup/recvmsg4 cgroup/recvmsg6 cgroup/recvmsg_unix cgroup/getpeername4 cgroup/getpeername6
cgroup/getpeername_unix cgroup/getsockname4 cgroup/getsockname6 cgroup/getsockname_unix cgroup/sysctl
cgroup/getsockopt cgroup/setsockopt cgroup/dev sk_lookup sk_reuseport sk_reuseport/migrate netfilter syscall
"""
# Names that read better than the section they stand for.
_ALIASES = {
    "socket_filter": "socket",
    "raw_tracepoint": "raw_tp",
    "tp": "tracepoint",
    "ingress": "tcx/ingress",
    "egress": "tcx/egress",
    "cgroup_device": "cgroup/dev",
}


#: what a tracepoint program may be asked to become (`skep.lang.tracepoints`)
_WAYS = ("auto", "record", "tp_btf", "raw_tp")


class Program:
    """A function that is a program. ``section`` is the section name it will have in the object."""

    __slots__ = ("__name__", "fn", "hook", "options", "section", "targets")

    def __init__(self, fn: Any, hook: str, section: str, targets: tuple[Any, ...], options: Any) -> None:
        self.fn = fn
        self.__name__ = fn.__name__
        #: the hook's own section name, "kprobe" of "kprobe/do_exit"
        self.hook = hook
        self.section = section
        self.targets = targets
        self.options = options

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise SkepError(f"{self.__name__} is a BPF program: load it with skep.load({self.__name__})")

    def __repr__(self) -> str:
        return f"<bpf program {self.__name__} {self.section!r}>"


def _shown(obj: Any) -> str:
    if isinstance(obj, Program):
        return f"a program of {obj.section!r} already"
    return "a subprogram" if isinstance(obj, Subprog) else f"class {obj.__name__}"


class Subprog:
    """A function that stays a function in the object (BPF-to-BPF call). In Python it is called as it is."""

    __slots__ = ("__name__", "fn", "global_")

    def __init__(self, fn: Any, global_: bool = False) -> None:
        self.fn = fn
        self.__name__ = fn.__name__
        #: verified on its own, by its types alone
        self.global_ = global_

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<bpf subprog {self.__name__}>"


class Hook:
    """A decorator: ``@bpf.xdp``, ``@bpf.xdp(frags=True)``, ``@bpf.kprobe("do_exit")``."""

    __slots__ = ("name", "section", "sleepable", "takes_target")

    def __init__(self, name: str, section: str, takes_target: bool, sleepable: bool) -> None:
        self.name = name
        self.section = section
        self.takes_target = takes_target
        self.sleepable = sleepable

    def __call__(self, *targets: Any, **options: Any) -> Any:
        if len(targets) == 1 and not options and hasattr(targets[0], "__code__"):
            return Program(targets[0], self.section, self.section, (), {})
        if targets and isinstance(targets[0], (Program, Subprog, type)):
            raise SkepError(
                f"@bpf.{self.name} decorates a function, and this is {_shown(targets[0])}: "
                "write a function for each, def main(ctx) -> int"
            )
        if targets and not self.takes_target:
            raise SkepError(f"@bpf.{self.name} takes no target: it is attached with obj.NAME.attach(...)")
        for target in targets:
            if not isinstance(target, str) or not target:
                raise SkepError(f"@bpf.{self.name}({target!r}): a target is text")
            if self.section == "tracepoint" and ":" not in target and "/" not in target:
                system = "syscalls" if target.startswith("sys_") else "sched"
                raise SkepError(
                    f"@bpf.tracepoint({target!r}): a tracepoint belongs to a system: "
                    f'write "{system}:{target}" (/sys/kernel/tracing/available_events lists them)'
                )
        if len(targets) > 1 and not self._one(targets):
            raise SkepError(
                f"@bpf.{self.name} takes one target: write a program for each, which call one function"
            )
        section = self.section
        if options.pop("sleepable", False):
            if not self.sleepable:
                raise SkepError(f"@bpf.{self.name}: programs of this hook cannot sleep")
            section += ".s"
        if options.pop("frags", False):
            head, slash, rest = section.partition("/")
            if head != "xdp":
                raise SkepError(f"@bpf.{self.name}: frags=True is for XDP")
            section = f"xdp.frags{slash}{rest}"
        kept = {}
        if self.section == "tracepoint":
            kept["via"] = options.pop("via", "auto")
            if kept["via"] not in _WAYS:
                raise SkepError(f"@bpf.{self.name}: via is one of {', '.join(_WAYS)}, not {kept['via']!r}")
        auto = options.pop("autoload", True)
        if options:
            raise SkepError(f"@bpf.{self.name}: unknown option {next(iter(options))!r}")
        hook = section
        if targets:
            section += "/" + "/".join(targets).replace(":", "/" if self.section == "tracepoint" else ":")
        if not auto:
            section = "?" + section
        return lambda fn: _program(fn, hook, section, targets, kept)

    def _one(self, targets: tuple[str, ...]) -> bool:
        """Whether several words name one place: path and function, system and event."""
        if self.section == "tracepoint":
            return len(targets) == 2 and not any(mark in word for word in targets for mark in ":/")
        return self.section.startswith(("uprobe", "uretprobe", "usdt", "uprobe.multi"))

    def __repr__(self) -> str:
        return f"@bpf.{self.name}"


def _program(
    fn: Any, hook: str, section: str, targets: tuple[Any, ...], options: dict[str, Any] | None = None
) -> Program:
    if not hasattr(fn, "__code__"):
        raise SkepError(f"@bpf.{hook}: {fn!r} is no function")
    return Program(fn, hook, section, targets, options or {})


def hook(name: str) -> Hook | None:
    """The decorator of that name, None when there is no such hook."""
    plain = _ALIASES.get(name, name)
    for section in _PLAIN.split():
        if plain in (section, section.replace("/", "_")):
            return Hook(name, section, False, False)
    for word in _TARGETS.split():
        sleepable = word.endswith(".s")
        section = word.removesuffix(".s")
        if plain in (section, section.replace(".", "_")):
            return Hook(name, section, True, sleepable)
    if plain == "socket":
        return Hook(name, plain, False, False)
    return None


def hook_names() -> list[str]:
    """Every decorator's name."""
    words = [word.removesuffix(".s") for word in (_TARGETS + _PLAIN).split()]
    return sorted({word.replace("/", "_").replace(".", "_") for word in words} | set(_ALIASES))


def like(name: str) -> str:
    """The end of a message about a hook that does not exist: what is called nearly so."""
    from difflib import get_close_matches

    close = get_close_matches(name, hook_names(), 1, 0.6)
    return f": did you mean bpf.{close[0]}?" if close else ": docs/language-hooks.md lists them"


def program(section: str) -> Callable[[Any], Program]:
    """A program for any section name libbpf knows: ``@bpf.program("fentry.s/vfs_read")``."""
    head = section.removeprefix("?").partition("/")[0]
    return lambda fn: _program(fn, head if hook(head) else section.removeprefix("?"), section, ())


def subprog(fn: Any = None, *, global_: bool = False) -> Any:
    """Keep the function a function: parameters and result need annotations.

    ``global_=True`` has the kernel verify it once, apart from its callers.
    """
    if fn is not None:
        return Subprog(fn, global_)
    return lambda fn: Subprog(fn, global_)
