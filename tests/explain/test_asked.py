"""Mistakes that people ask about: the family, and the answer that helps, from our verifier and from Linux."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import skep
from skep.errors import PermissionDenied, VerifierError
from skep.explain import Explanation, explain
from skep.obj import ObjectSpec, read
from skep.verifier import Subject, check
from tests.support import oracles

#: program -> family, a part of the label, a part of the advice
ASKED = {
    "task_followed": ("lost-pointer", "the task's address as a number", "BPF_CORE_READ"),
    "mask_too_wide": ("stack-bounds", "up to 255 bytes", "bound the length by the buffer"),
    "negative_index": ("pointer-arithmetic", "may be negative", "make the index unsigned"),
    "call_under_lock": ("lock-held", "bpf_ktime_get_ns is called while a lock", "before the lock"),
    "packet_in_a_socket_filter": ("context-access", "no direct access to the packet", "bpf_skb_load_bytes"),
    "format_on_the_stack": ("argument-type", "argument 3 of bpf_snprintf", "static const char"),
    "record_of_any_size": ("constant-argument", "must be a constant", "bpf_ringbuf_output"),
    "kernel_written": ("kernel-type", "may not write to the kernel's objects", "in a map"),
    "callback_returns_two": ("return-value", "may return (0, 1)", "return one of the values"),
    "length_returned": ("return-value", "may return (0, 1)", "condition ? 1 : 0"),
    "helper_of_another_type": ("helper-not-allowed", "bpf_skb_load_bytes#26", "sched_cls"),
    "variable_header": ("packet-bounds", "end 4 bytes beyond", "if (ptr + 4 > data_end)"),
    "context_of_another_type": ("lost-pointer", "is no packet pointer", "correct SEC"),
    "packet_where_another_type_has_it": ("context-access", "at offset 80", "section fit the context"),
    "length_beyond_the_stack": ("stack-bounds", "9 bytes from fp-8", "1 byte more"),
    "never_set": ("uninitialised-register", "never set on this path", "where it is declared"),
    "past_a_global": (
        "unbounded-index",
        "global variables (16 bytes in all)",
        "past the end of a global array",
    ),
    "packet_written": ("packet-bounds", "writes byte 6", "if (data + 7 > data_end)"),
    "index_without_bound": ("unbounded-index", "has no upper bound", "if (index > 29) return"),
    "submitted_twice": ("released-twice", "bpf_ringbuf_submit has already given this back", "leave one"),
    "task_of_an_iterator": ("unchecked-null", "pointer to a kernel object may be NULL", "right after line"),
    "record_not_submitted": (
        "unreleased-reference",
        "bpf_ringbuf_reserve gave at insn",
        "bpf_ringbuf_submit",
    ),
    "number_for_a_map": ("argument-type", "is a number, and a map is needed", "`&map`"),
    "context_optimised_away": ("argument-type", "first argument is the context", "make the function static"),
}


def built(folder: Path, *more: str) -> str:
    clang = oracles.tool("clang-19", "clang")
    out = folder / "asked.o"
    words = ["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wno-everything", *more]
    source = Path(__file__).parent / "c" / "asked.bpf.c"
    subprocess.run([clang, *words, "-c", str(source), "-o", str(out)], check=True)
    return str(out)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("asked"))


def answered(found: Explanation | None, name: str) -> None:
    assert found is not None
    family, label, advice = ASKED[name]
    assert found.family == family, found.render()
    assert label in found.label, found.render()
    assert advice in (found.hint or ""), found.render()
    assert found.location is not None and found.location.line


def test_every_program_is_asked_about(asked: str) -> None:
    spec: ObjectSpec = read(asked)
    assert set(spec.programs) == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_what_our_verifier_answers(asked: str, name: str) -> None:
    with pytest.raises(VerifierError) as caught:
        check(Subject.from_object(read(asked), name))
    found = caught.value.explanation
    assert isinstance(found, Explanation)
    answered(found, name)


def test_where_a_reference_was_taken(asked: str) -> None:
    with pytest.raises(VerifierError) as caught:
        check(Subject.from_object(read(asked), "record_not_submitted"))
    found = caught.value.explanation
    assert isinstance(found, Explanation)
    ((_, place, what),) = found.story
    assert place is not None and "bpf_ringbuf_reserve(&events" in place.text
    assert what == "bpf_ringbuf_reserve gives a reference"


def test_the_advised_bound_is_the_widest(tmp_path: Path) -> None:
    """Followed, it makes the program load; one more does not."""
    check(Subject.from_object(read(built(tmp_path, "-DMOST=29")), "index_without_bound"))
    with pytest.raises(VerifierError) as caught:
        check(Subject.from_object(read(built(tmp_path, "-DMOST=30")), "index_without_bound"))
    found = caught.value.explanation
    assert isinstance(found, Explanation)
    assert "too wide by 4 bytes" in found.hint
    assert "if (index > 29) return" in found.hint


@pytest.mark.live
@pytest.mark.parametrize("name", ASKED)
def test_what_is_answered_to_the_kernel_s_log(asked: str, name: str) -> None:
    oracles.bpf()
    spec = read(asked)
    for other in list(spec.programs):
        if other != name:
            del spec.programs[other]
    try:
        with skep.load(spec, kernel="linux"):
            pytest.fail("the kernel takes it")
    except VerifierError as error:
        answered(explain(error.log), name)
    except PermissionDenied as error:
        oracles.absent(f"leave to load programs ({error})")


def test_a_callback_s_frame_is_no_part_of_a_value(asked: str) -> None:
    """Linux ends the states of callbacks with "cb"."""
    with pytest.raises(VerifierError) as caught:
        check(Subject.from_object(read(asked), "callback_returns_two"))
    found = caught.value.explanation
    assert isinstance(found, Explanation)
    assert found.story[-1][2] == "set to 2: the number 2"
