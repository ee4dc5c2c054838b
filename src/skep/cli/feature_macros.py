"""`skep feature probe macros`: what the kernel can do as C preprocessor macros, as bpftool prints them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skep.cli.feature import Section

#: the sections that have macros, and their titles; of the system's configuration one item
_TITLES = {
    "system_config": "Misc kernel config items",
    "syscall_config": "System call availability",
    "program_types": "eBPF program types",
    "map_types": "eBPF map types",
    "helpers": "eBPF helper functions",
    "misc": "eBPF misc features",
}
_HELPERS = """\
/*
 * Use {p}HAVE_PROG_TYPE_HELPER(prog_type_name, helper_name)
 * to determine if <helper_name> is available for <prog_type_name>,
 * e.g.
 *	#if {p}HAVE_PROG_TYPE_HELPER(xdp, bpf_redirect)
 *		// do stuff with this helper
 *	#elif
 *		// use a workaround
 *	#endif
 */
#define {p}HAVE_PROG_TYPE_HELPER(prog_type, helper)	\\
	{p}BPF__PROG_TYPE_ ## prog_type ## __HELPER_ ## helper
"""


def macros(sections: Iterator[Section], prefix: str, helpers: list[str]) -> Iterator[str]:
    """The text of each section. ``helpers`` are all that were asked about."""
    first = True
    for _, key, rows in sections:
        if key not in _TITLES:
            continue
        yield ("" if first else "\n") + f"/*** {_TITLES[key]} ***/\n"
        first = False
        if key == "helpers":
            yield _HELPERS.format(p=prefix)
            yield from _helpers(rows, prefix, helpers)
            continue
        for name, value, _ in rows:
            if key != "system_config":
                yield f"#define {prefix}{'' if value else 'NO_'}{name.upper()}\n"
            elif name == "CONFIG_HZ":
                yield (
                    f"#define {prefix}{name} {value}\n" if value is not None else f"/* {name} is not set */\n"
                )
    yield "\n"


def _helpers(rows: Iterator[tuple[str, Any, str]], prefix: str, helpers: list[str]) -> Iterator[str]:
    for name, have, _ in rows:
        kind = name.removesuffix("_available_helpers")
        there = set(have)
        yield "".join(
            f"#define {prefix}BPF__PROG_TYPE_{kind}__HELPER_{helper} {int(helper in there)}\n"
            for helper in helpers
        )
