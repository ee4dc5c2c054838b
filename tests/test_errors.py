"""The error tree: one-line messages with place, reason and hint; attributes for the rest."""

from __future__ import annotations

import errno
import inspect

import pytest

from skep import errors


def test_every_error_is_in_the_drawn_tree() -> None:
    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__:
            assert name in drawn, f"{name} is missing from the tree at the top of errors.py"
            assert issubclass(value, errors.SkepError)


def test_format_error_names_file_and_offset() -> None:
    error = errors.CaptureError("record length 70000 exceeds 65535", path="a.pcap", offset=24)
    assert str(error) == "a.pcap at byte 24: record length 70000 exceeds 65535"
    assert (error.path, error.offset) == ("a.pcap", 24)
    assert str(errors.DecodeError("odd length", offset=3)) == "at byte 3: odd length"
    assert str(errors.ElfError("not ELF")) == "not ELF"


@pytest.mark.parametrize(
    ("column", "end", "caret"),
    [(0, 3, "^^^"), (4, 8, "^^^^"), (9, None, "^"), (20, 21, "^")],
)
def test_source_error_points_into_the_line(column: int, end: int | None, caret: str) -> None:
    error = errors.FilterSyntaxError("no such thing", source="tcp prot 80", column=column, end_column=end)
    line, mark = error.pointer().split("\n")
    assert line == "tcp prot 80"
    assert mark.strip() == caret
    assert mark.index("^") == min(column, len(line))
    assert str(error).startswith(f"column {column + 1}: ")


def test_source_error_clips_long_lines_around_the_span() -> None:
    text = "x" * 500 + "BAD" + "y" * 500
    line, mark = errors.AsmError("bad", source=text, column=500, end_column=503).pointer(60).split("\n")
    assert len(line) == 60
    assert line[mark.index("^") : mark.index("^") + mark.count("^")] == "BAD"


def test_source_error_without_place() -> None:
    assert errors.CompileError("too large", hint="split it").pointer() == ""
    assert str(errors.CompileError("too large", hint="split it")) == "too large (split it)"
    assert str(errors.CompileError("bad", file="a.py", line=3, column=4)) == "a.py:3:5: bad"


def test_what_is_pointed_at_does_not_move_the_cursor() -> None:
    text = "ok\x0c\u2028\r\ntcp \x1b[31m\tx"
    line, mark = errors.AsmError("bad", source=text, line=2, column=10).pointer().split("\n")
    assert line == "tcp \ufffd[31m x"
    assert line[mark.index("^")] == "x"


def test_kernel_errors_are_os_errors() -> None:
    error = errors.NotSupported(errno.EINVAL, "BPF_MAP_TYPE_RINGBUF", since="5.8", cmd="BPF_MAP_CREATE")
    assert isinstance(error, OSError)
    assert error.errno == errno.EINVAL
    assert str(error) == "BPF_MAP_CREATE: BPF_MAP_TYPE_RINGBUF is not supported here (Linux 5.8 has it)"
    assert (
        str(errors.KernelError(errno.EPERM, cmd="BPF_PROG_LOAD")) == "BPF_PROG_LOAD: Operation not permitted"
    )
