"""``bpf.NAME`` in a program: helpers, kfuncs, the kernel's types and enumerators, and the friendly functions.

A helper takes what its C prototype takes, less what the language knows: the context goes in by itself, a
buffer and its length are one value, memory that the helper fills is what the call returns, flags are 0.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.lang import core as co
from skep.lang import helpers_print, helpers_read, helpers_say, references
from skep.lang.contexts import section_of
from skep.lang.core_refs import core_of
from skep.lang.helpers_types import FunctionName, KernelName
from skep.lang.kernel_types import KInt, types_of
from skep.lang.values import INT, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


def lookup(c: Walker, name: str, node: ast.AST) -> Value | None:
    """What ``bpf.name`` means in a program; None when nothing is called so."""
    own = helpers_say.FUNCTIONS.get(name) or helpers_read.FUNCTIONS.get(name)
    if own is not None:
        return Value(FunctionName(name, own))
    special = helpers_read.SPECIAL.get(name) or helpers_print.SPECIAL.get(name)
    if special is not None:
        return Value(special)
    number = number_of(c, name)
    if number is not None:
        from skep.lang.helpers_call import caller

        return Value(FunctionName(name, caller(number, name)))
    if name.isupper():
        return enumerator(c, name, node)
    kind = types_of(c, node).by_name(name)
    if kind is not None and not (isinstance(kind, KInt) and not kind.size):
        return Value(KernelName(kind))
    from skep.lang import kfuncs

    found = kfuncs.lookup(c, name, node)
    if found is None and name[:1].isupper():  # TCP_CA_Loss
        found = enumerator(c, name, node)
    return found


def number_of(c: Walker, name: str) -> int | None:
    """The number of the helper called ``name``, None when none is."""
    try:
        return c.unit.helper_number(name)
    except KeyError:
        return None


def check(c: Walker, number: int, name: str, node: ast.AST) -> None:
    """Refuse a helper that programs of this type do not have."""
    if c.program is None:
        return
    from skep.uapi import availability
    from skep.verifier.facts import protos

    section = section_of(c, node)
    attach = int(section.attach_type) if section.attach_type is not None else None
    if availability.first(section.type, number, attach) is not None:
        licensed(c, number, node)
        proto = protos.proto(int(section.type), number, attach or 0, section.sleepable)
        if proto is not None and proto.might_sleep:
            references.awake(c, f"bpf.{name}", node)
        if proto is not None and proto.might_sleep and not section.sleepable:
            raise c.error(
                node,
                f"bpf_{name} may sleep, and this program may not",
                f"@bpf.{section.prefix.rstrip('/+')}(..., sleepable=True) where the hook allows it",
            )
        return
    from skep.lang.helpers_call import OPTIONAL

    if number in OPTIONAL and OPTIONAL[number][0] is section.type:
        licensed(c, number, node)
        return
    kind = section.type.name.lower()
    later = availability.first(section.type, number)
    if later is not None:
        raise c.error(
            node,
            f"{kind} programs attached as {section.prefix} cannot call bpf_{name}",
            "other attachments of them can",
        )
    others = [t.name.lower() for t in availability.types_with(number, (99, 0))]
    first = min(
        (f for t in availability.types_with(number, (99, 0)) if (f := availability.first(t, number))),
        default=None,
    )
    if number in OPTIONAL:
        others, first = [OPTIONAL[number][0].name.lower()], OPTIONAL[number][1]
    hint = f"Linux {first[0]}.{first[1]} and later: {', '.join(others)} programs can" if first else ""
    hint = hint or "no program type has it in the kernels that are known here"
    raise c.error(node, f"{kind} programs cannot call bpf_{name}", hint)


def licensed(c: Walker, number: int, node: ast.AST) -> None:
    """Refuse a helper that is for programs under the GPL only."""
    from skep.uapi.helpers import helpers
    from skep.verifier.facts import protos
    from skep.verifier.subject import GPL

    text = c.unit.license_text
    if text is None or text in GPL:
        return
    proto = protos.proto(int(section_of(c, node).type), number, 0, False)
    if proto is not None and proto.gpl_only:
        raise c.error(
            node,
            f"bpf_{helpers()[number].name} is for programs under a GPL-compatible license, "
            f"and this one's is {text!r}",
            'license = "GPL" in the module, or "Dual MIT/GPL"',
        )


def enumerator(c: Walker, name: str, node: ast.AST) -> Value | None:
    """An enumerator of the kernel's, relocated where its enum has a name."""
    found = types_of(c, node).enumerator(name)
    if found is None:
        return None
    enum, value, size, signed = found
    if not enum:
        return c.int_const(value)
    core = core_of(c)
    got = c.em.op(core.enum_value(enum, name, value, size, signed, co.ENUM_VALUE))
    bits = 8 * size
    return Value(INT, got, -(1 << bits - 1) if signed else 0, (1 << bits - int(signed)) - 1)
