"""Types of test programs, written in C and turned into BTF by clang."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from pathlib import Path

from skep.obj import kernel_btf, read
from tests.support.oracles import tool
from tests.verifier.harness.question import Types

#: structs that only newer headers have; cases define those they use
_LATER = ("bpf_rb_root", "bpf_rb_node", "bpf_list_head", "bpf_list_node", "bpf_refcount", "bpf_wq")
_BEFORE = (
    "".join(f"#define {name} {name}_of_headers\n" for name in _LATER)
    + "#include <linux/bpf.h>\n"
    + "".join(f"#undef {name}\n" for name in _LATER)
    + """
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef _Bool bool;
#define __kptr __attribute__((btf_type_tag("kptr")))
#define __kptr_untrusted __attribute__((btf_type_tag("kptr_untrusted")))
#define __contains(name, node) __attribute__((btf_decl_tag("contains:" #name ":" #node)))
#define __arg_ctx __attribute__((btf_decl_tag("arg:ctx")))
#define __arg_nonnull __attribute__((btf_decl_tag("arg:nonnull")))
#define __arg_nullable __attribute__((btf_decl_tag("arg:nullable")))
#define __arg_trusted __attribute__((btf_decl_tag("arg:trusted")))
#define __arg_arena __attribute__((btf_decl_tag("arg:arena")))
#define __exception_cb(name) __attribute__((btf_decl_tag("exception_callback:" #name)))
"""
)
_AFTER = 'char _license[] __attribute__((section("license"))) = "GPL";\n'
_FUNC, _STRUCT, _TYPEDEF = 12, 4, 8


@functools.cache
def types(source: str, functions: tuple[str, ...]) -> Types:
    """BTF of ``source`` (struct definitions) and ``functions`` (prototypes without ";")."""
    structs = re.findall(r"^\s*struct\s+(\w+)\s*\{", source, re.M)
    uses = "".join(f"struct {name} *skep_{name}(struct {name} *x) {{ return x; }}\n" for name in structs)
    bodies = "".join(_body(prototype) for prototype in functions)
    with tempfile.TemporaryDirectory(prefix="skep-types-") as folder:
        c, o = Path(folder, "t.c"), Path(folder, "t.o")
        c.write_text(
            _BEFORE
            + source
            + "\n"
            + uses
            + bodies
            + 'char _l[] __attribute__((section("license"))) = "GPL";\n'
        )
        done = subprocess.run(
            [
                tool("clang-19", "clang"), "--target=bpf", "-g", "-O1", "-mcpu=v3", "-Wno-everything",
                "-I/usr/include/x86_64-linux-gnu", "-c", str(c), "-o", str(o),
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(f"the types of a case do not compile: {done.stderr}\n{bodies}")
        spec = read(str(o))
        data = kernel_btf(spec)
    btf = spec.btf
    assert btf is not None
    found = {name: btf.find(name, _FUNC) or 0 for name in map(_name, functions)}
    ids = {name: btf.find(name, _STRUCT) or 0 for name in structs}
    return Types(data, found, ids)


def _name(prototype: str) -> str:
    found = re.search(r"(\w+)\s*\(", prototype)
    assert found is not None, prototype
    return found[1]


def _body(prototype: str) -> str:
    gives = (
        ""
        if re.match(r"\s*(?:static\s+)?(?:__\w+(?:\(\w+\))?\s+)*void\s+\w+\s*\(", prototype)
        else "return 0;"
    )
    head = re.match(r"\s*(static\s+)?(.*)", prototype, re.S)
    assert head is not None
    return (
        f"__attribute__((used, noinline)) {head[1] or ''}{head[2]} "
        f'{{ __asm__ volatile ("" ::: "memory"); {gives} }}\n'
    )
