"""`skep prog pin`, and attaching to maps and to the network namespace (attach, detach)."""

from __future__ import annotations

from skep.cli.noun import names, objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words
from skep.uapi.enums import AttachType


def pin(call: Call, words: Words) -> None:
    from skep.cli.noun.pinning import pin as pin_fd

    kernel = call.kernel
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        path = words.take("FILE")
        words.end()
        pin_fd(call, fd, path)
    call.done()


def attach(call: Call, words: Words) -> None:
    _change(call, words, attach=True)


def detach(call: Call, words: Words) -> None:
    _change(call, words, attach=False)


def _change(call: Call, words: Words, *, attach: bool) -> None:
    kernel = call.kernel
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        word = words.take("ATTACH_TYPE")
        kind = names.find_attach_type(word)
        if kind is None:
            raise Usage(f"no attach type {word!r}")
        do = kernel.prog_attach if attach else kernel.prog_detach
        if kind == AttachType.FLOW_DISSECTOR:
            words.end()
            do(0, fd, kind)
        else:
            target = objects.map_(kernel, words)
            with objects.closing(kernel, target):
                words.end()
                do(target, fd, kind)
    call.done()
