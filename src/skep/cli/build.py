"""`skep build`: BPF programs written in Python, made into an object file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from skep.errors import SkepError

_EMIT = ("obj", "ir", "asm", "c-types")


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 built, 1 the program cannot be compiled, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="skep build",
        description="Compile BPF programs written in Python to an object that any loader takes.",
        epilog="The file is imported, not run: what stands under `if __name__ == '__main__':` is left alone.",
    )
    parser.add_argument("file", metavar="FILE.py", help="the programs, with their maps and types")
    parser.add_argument("programs", metavar="PROG", nargs="*", help="only these programs")
    parser.add_argument("-o", "--output", metavar="OUT", help="the object (FILE.bpf.o here); - is stdout")
    parser.add_argument(
        "--cpu", "--mcpu", default="v3", choices=("v1", "v2", "v3", "v4"), help="instruction set (v3)"
    )
    parser.add_argument(
        "--emit", default="obj", choices=_EMIT, help="what to write (obj); text goes to stdout"
    )
    parser.add_argument("--license", metavar="TEXT", help="instead of the module's `license`")
    parser.add_argument(
        "--btf", metavar="FILE", help="types of the kernel that this is for (those of the running one)"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="say on stderr what each program became: its section, and why that one where there was a choice",
    )
    options = parser.parse_intermixed_args(argv)
    if not options.file.endswith(".py"):
        raise SkepError(f"{options.file}: no Python file; objects need no building, C is clang's")
    from skep.cli.python import programs
    from skep.loading import build

    chosen = programs(options.file, options.programs)
    if options.verbose:
        from skep.lang.compile import sections

        for name, (section, why) in sections(chosen, cpu=options.cpu).items():
            print(f"{name}: {section}{f' ({why})' if why else ''}", file=sys.stderr)
    if options.emit in ("obj", "c-types"):
        data = build(chosen, cpu=options.cpu, license=options.license, btf=options.btf)
    else:
        from skep.lang.compile import compile_programs

        data = compile_programs(
            chosen, cpu=options.cpu, license=options.license, kind=options.emit, btf=options.btf
        )
    if options.emit == "c-types":
        data = _c_types(data).encode()
    stem = os.path.splitext(os.path.basename(options.file))[0]
    output = options.output or (f"{stem}.bpf.o" if options.emit == "obj" else "-")
    if output == "-":
        if options.emit == "obj" and sys.stdout.isatty():
            raise SkepError("an object is no text: write it to a file with -o")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    from skep.cli.whole import write_whole

    if output.endswith((".py", ".pyi")) or (
        os.path.exists(output) and os.path.samefile(output, options.file)
    ):
        raise SkepError(f"{output}: a source file is not written over; an object ends in .o")
    write_whole(output, data)
    return 0


def _c_types(data: bytes) -> str:
    """The types that an object shares with user space, as C: of maps, records and global variables."""
    from skep.btf.cdump import c_dump
    from skep.btf.types import Ptr, Var
    from skep.obj import read

    spec = read(data)
    btf = spec.btf
    if btf is None:
        return ""
    roots = [id for one in spec.maps.values() for id in (one.key_type_id, one.value_type_id) if id]
    variables = [one.type for one in btf if isinstance(one, Var)]
    # a record's type is told by a variable that points to it
    roots += [target.type if isinstance(target := btf[id], Ptr) else id for id in variables]
    return c_dump(btf, roots)
