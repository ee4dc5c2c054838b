"""Explanations of what kernels refuse, from the logs they printed and from the running one's."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

import skep
from skep.errors import KernelError, VerifierError
from skep.explain import Explanation, explain, parse
from skep.explain.families import FAMILIES
from skep.obj import read
from tests.explain import logs
from tests.support import oracles

SEED = int(os.environ.get("SKEP_SEED", "20261121"))
CASES = [(kernel, name) for kernel in logs.KERNELS for name in logs.read(kernel)]


def explained(kernel: str, name: str) -> Explanation:
    found = explain(logs.read(kernel)[name])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def refused_object(tmp_path_factory: pytest.TempPathFactory) -> str:
    clang = oracles.tool("clang-19", "clang")
    out = tmp_path_factory.mktemp("explain") / "refused.o"
    words = ["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wno-everything"]
    source = Path(__file__).parent / "c" / "refused.bpf.c"
    subprocess.run([clang, *words, "-c", str(source), "-o", str(out)], check=True)
    return str(out)


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_the_family_of_each_refusal(kernel: str, name: str) -> None:
    found = explained(kernel, name)
    assert found.family == logs.family(kernel, name)
    assert found.hint
    assert found.label
    assert found.reason
    shown = found.render(width=80)
    assert found.family in shown.splitlines()[0]
    assert max(map(len, shown.splitlines())) <= 90


def test_every_kernel_says_the_same() -> None:
    """A program has one explanation, whatever kernel refused it."""
    newest = {name: explained("6.18", name) for name in logs.read("6.18")}
    for kernel in ("6.1", "7.3"):
        for name in logs.read(kernel):
            if name in newest and name != "return_range":  # the range is worded otherwise
                assert explained(kernel, name).label == newest[name].label, (kernel, name)


def test_what_a_packet_check_lacks() -> None:
    found = explained("6.18", "short_bounds")
    assert found.label == "reads bytes 26 to 29, but only 14 bytes are known to be there"
    assert "data + 30" in found.hint


def test_a_story_begins_where_the_pointer_was_made() -> None:
    found = explained("6.18", "stale_packet")
    assert [pc for pc, _, _ in found.story] == [2, 7]
    assert "bpf_skb_pull_data may move the packet" in found.story[-1][2]
    assert "again" in found.hint


def test_a_story_passes_through_copies_and_sums() -> None:
    what = [entry for _, _, entry in explained("6.18", "bound_off_by_one").story]
    assert what[0].startswith("what bpf_map_lookup_elem returned")
    assert "r1 is a number from 0 to 16" in what[-1]


@pytest.mark.parametrize("kernel", logs.KERNELS)
def test_the_path_is_put_together_over_branches(kernel: str) -> None:
    """The record leaks on the path that the log takes up again with ``from 11 to 15``, or goes on with."""
    found = explained(kernel, "leaked_record")
    branches = [s.branch for s in found.path if s.branch]
    assert len(branches) == 2
    assert branches[0] == "r6 is not NULL" or branches[0].endswith(": no")
    assert branches[1].endswith(": yes")
    assert found.path[0].pc == 0
    assert found.pc == 16


def test_the_report_of_linux_7_3() -> None:
    report = explained("7.3", "stale_packet").report
    assert report is not None
    assert (report.category, report.problem) == ("Register Type Safety", "Invalid dereference")
    assert report.reason == "R6 is an integer scalar here, not a pointer to memory."
    assert report.suggestion.startswith("Preserve a pointer-valued register")
    assert [cause.label for cause in report.causes] == ["update", "branch", "invalidated"]
    assert report.at is not None
    assert report.at.pc == 8
    assert report.at.location is not None
    assert (report.at.location.line, report.at.location.column) == (67, 12)
    assert report.at.location.text.strip() == "return data[23] == 6;"


def test_a_report_alone_is_enough() -> None:
    text = logs.read("7.3")["leaked_socket"]
    alone = text[text.index("Verification failed") : text.index("BPF_EXIT")]
    found = explain(alone)
    assert found is not None
    assert found.title == "Unreleased resource"
    assert found.pc == 14
    assert [pc for pc, _, _ in found.story] == [9, 12]


def test_the_caret_stands_under_the_column() -> None:
    lines = explained("7.3", "bound_off_by_one").render().splitlines()
    source = next(line for line in lines if "v->name[i] = 1;" in line)
    caret = next(line for line in lines if "^ " in line)
    assert source[caret.index("^")] == "="


def test_a_log_with_its_loaders_words_around() -> None:
    log = logs.read("6.18")["past_stack"]
    around = (
        "libbpf: prog 'past_stack': BPF program load failed: Permission denied\n"
        "libbpf: prog 'past_stack': -- BEGIN PROG LOAD LOG --\n" + log + "\n-- END PROG LOAD LOG --\n"
        "libbpf: prog 'past_stack': failed to load: -13\nlibbpf: failed to load object 'x.o'\n"
        "Error: failed to load object file\n"
    )
    found = explain(around)
    assert found is not None
    assert found.function == "past_stack"
    assert found.reason.startswith("invalid variable-offset write to stack")
    assert found.family == "stack-bounds"


def test_an_accepted_program_has_no_explanation() -> None:
    log = (
        "func#0 @0\n0: R1=ctx() R10=fp0\n0: (b7) r0 = 2                        ; R0=2\n1: (95) exit\n"
        "processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n"
    )
    assert explain(log) is None
    assert parse(log).accepted
    assert parse(log).processed == 2
    assert explain("nothing of the kind\n") is None


def test_families_are_told_apart() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)


def test_rounds_of_a_loop_are_shown_once() -> None:
    head = "; int x = 0; @ a.c:1\n0: (b7) r2 = 0                       ; R2_w=0\n"
    turn = (
        "; while (x < 9) @ a.c:2\n1: (25) if r2 > 0x9 goto pc+9        ; R2_w={0}\n"
        "; x++; @ a.c:3\n2: (07) r2 += 1                      ; R2_w={0}\n3: (05) goto pc-3\n"
    )
    end = "; return *p; @ a.c:5\n5: (79) r0 = *(u64 *)(r3 +0)\nR3 !read_ok\nprocessed 30 insns\n"
    found = explain(head + "".join(turn.format(n) for n in range(7)) + end)
    assert found is not None
    lines = found.render().splitlines()
    at = next(n for n, line in enumerate(lines) if "while (x < 9)" in line)
    assert "x++;" in lines[at + 1]
    assert lines[at + 2].strip() == ": these 2 lines 7 times"
    assert sum("x++;" in line for line in lines) == 1
    assert sum(station.text.startswith("r2 += 1") for station in found.path) == 7


def test_numbers_below_zero_are_written_as_such() -> None:
    log = (
        "0: (79) r2 = *(u64 *)(r1 +0)         ; R1=ctx() R2_w=scalar(smin=0xffffffff80000000,smax=0x1e00)\n"
        "1: (66) if w3 s> 0xffffffff goto pc+1 ; R3=scalar()\n"
        "2: (0f) r1 += r2\n"
        "value -2147483648 makes map_value pointer be out of bounds\nprocessed 3 insns\n"
    )
    found = explain(log)
    assert found is not None
    assert found.register == 2
    assert "a number from -2147483648 to 7680" in found.story[-1][2]
    assert [s.branch for s in found.path if s.branch] == ["w3 s> -1: no"]


def test_damaged_logs_are_read() -> None:
    """Lines lost, cut, doubled and mixed: an explanation or none, never an exception."""
    print("seed", SEED)
    dice = random.Random(SEED)
    texts = [text for kernel in logs.KERNELS for text in logs.read(kernel).values()]
    for _ in range(400):
        lines = dice.choice(texts).splitlines()
        for _ in range(dice.randint(1, 12)):
            if not lines:
                break
            at = dice.randrange(len(lines))
            match dice.randrange(5):
                case 0:
                    del lines[at]
                case 1:
                    lines[at] = lines[at][: dice.randint(0, len(lines[at]))]
                case 2:
                    lines.insert(at, dice.choice(dice.choice(texts).splitlines() or [""]))
                case 3:
                    lines[at] = "".join(
                        dice.choice([c, c, c, chr(dice.randrange(32, 500))]) for c in lines[at]
                    )
                case _:
                    dice.shuffle(lines)
        found = explain("\n".join(lines))
        if found is not None:
            found.render(width=dice.randint(1, 120), colour=True)
            found.as_json()


def test_a_huge_log_is_read_from_its_end() -> None:
    body = "".join(
        f"{pc % 4000}: (07) r1 += 1                       ; R1=scalar()\n" for pc in range(300_000)
    )
    end = "3: (71) r0 = *(u8 *)(r1 +0)\nR1 invalid mem access 'scalar'\nprocessed 300001 insns\n"
    found = explain(body + end)
    assert found is not None
    assert found.truncated
    assert found.family == "lost-pointer"


@pytest.mark.live
def test_the_running_kernel_is_understood(refused_object: str) -> None:
    """Every program of the C file, refused by the running kernel, is explained as its family says."""
    oracles.bpf()
    names = [n for n in read(refused_object).programs if n not in ("endless", "too_complex")]
    told = 0
    for name in names:
        try:
            skep.load(refused_object, programs=[name]).close()
        except (VerifierError, KernelError) as error:
            log = error.log or getattr(error.__cause__, "log", "")
            found = explain(log)
            assert found is not None, (name, log)
            if name in logs.FAMILIES:
                told += found.family in logs.FAMILIES[name].values()
                assert found.family in logs.FAMILIES[name].values(), (name, found.family, found.reason)
    assert told >= 24


def test_the_docs_list_the_families() -> None:
    text = (oracles.ROOT / "docs" / "explaining.md").read_text()
    for family in FAMILIES:
        assert f"| `{family.name}` | {family.title} | {family.rule or '—'} |" in text
