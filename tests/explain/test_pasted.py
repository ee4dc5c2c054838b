"""Logs with what loaders, loggers and people put around them are explained like the bare log."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from skep.explain import explain
from tests.explain import logs


def each(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda log: "\n".join(change(line) for line in log.split("\n"))


def quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")


FORMS: dict[str, Callable[[str], str]] = {
    "libbpf": lambda log: (
        "libbpf: prog 'f': BPF program load failed: Permission denied\n"
        f"libbpf: prog 'f': -- BEGIN PROG LOAD LOG --\n{log}\n-- END PROG LOAD LOG --\n"
        "libbpf: prog 'f': failed to load: -13\nlibbpf: failed to load object 'x.bpf.o'\n"
    ),
    "libbpf before 1.0": lambda log: each(lambda line: f"libbpf: {line}")(
        f"load bpf program failed: Permission denied\n-- BEGIN DUMP LOG ---\n\n{log}\n\n-- END LOG --"
    ),
    "logfmt": each(lambda line: f'level=warning msg="{quoted(line)}" subsys=datapath-loader'),
    "logfmt with time": each(
        lambda line: f'2021-04-21T11:52:43.746241606Z level=warning msg="{quoted(line)}" subsys=loader'
    ),
    "the kernel's journal": each(lambda line: f"[  123.456789] {line}"),
    "a system's journal": each(lambda line: f"Apr 21 11:52:43 node-1 agent[1234]: {line}"),
    "docker compose": each(lambda line: f"agent-1  | {line}"),
    "kubectl": each(lambda line: f"2024-05-07T10:11:12.123456789Z {line}"),
    "a CI runner": each(lambda line: f"2023-01-01T00:00:00.1234567Z   {line}"),
    "quoted mail": each(lambda line: f"> > {line}"),
    "indented": lambda log: "It says\n\n" + each(lambda line: f"        {line}")(log) + "\n\nwhy?",
    "a markdown issue": lambda log: f"# Load fails\n\nOn 6.8:\n```text\n{log}\n```\n### Version\n6.8.0",
    "Go": lambda log: (
        "2023/01/02 03:04:05 Verifier error: load program: permission denied:\n"
        + each(lambda line: f"\t{line}")(log)
    ),
    "Go's slog": lambda log: json.dumps(
        {"level": "error", "msg": "load", "error": "program f: load program: permission denied:\n" + log}
    ),
    "BCC": lambda log: (
        f"bpf: Failed to load program: Permission denied\n{log}\n\nTraceback (most recent call last):\n"
        '  File "/usr/sbin/x", line 1, in <module>\n    b.attach_kprobe(event="f", fn_name="g")\n'
        "Exception: Failed to load BPF program b'g': Permission denied\n"
    ),
    "bpftrace": lambda log: (
        "Attaching 1 probe...\nERROR: Error loading program: kprobe:f (try -v)\n"
        f"The verifier log: \n{log}\n\n"
        "ERROR: Loading BPF object(s) failed.\n"
    ),
    "iproute2": lambda log: (
        "\nProg section 'classifier' rejected: Permission denied (13)!\n - Type:         3\n"
        f" - Instructions: 140 (0 over limit)\n - License:      GPL\n\nVerifier analysis:\n\n{log}\n\n"
        "Error fetching program/map!\nUnable to load program\n"
    ),
    "aya": lambda log: (
        f"Error: the BPF_PROG_LOAD syscall returned Permission denied (os error 13). Verifier output: {log}\n"
    ),
    "strace": lambda log: (
        f'bpf(BPF_PROG_LOAD, {{insn_cnt=3, log_level=1, log_buf="{quoted(log)}\\n", kern_version=0}}, 144)'
        " = -1 EACCES (Permission denied)\n"
    ),
    "a terminal's colours": each(lambda line: f"\x1b[90m{line}\x1b[0m"),
    "Windows' line ends": lambda log: log.replace("\n", "\r\n"),
    "said twice": lambda log: f"The verifier log: \n{log}\n\nError log: \n{log}\n",
    "after another program that loaded": lambda log: (
        f"0: R1=ctx() R10=fp0\n0: (b7) r0 = 0\n1: (95) exit\nprocessed 2 insns (limit 1000000)\n\n{log}"
    ),
    "before another program that loaded": lambda log: (
        f"{log}\n0: R1=ctx() R10=fp0\n0: (b7) r0 = 0\n1: (95) exit\nprocessed 2 insns (limit 1000000)\n"
    ),
}


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.18"])
@pytest.mark.parametrize("form", FORMS)
def test_a_form(form: str, kernel: str) -> None:
    for name, log in logs.read(kernel).items():
        bare = explain(log)
        found = explain(FORMS[form](log))
        assert bare is not None and found is not None, name
        assert (found.family, found.reason, found.pc) == (bare.family, bare.reason, bare.pc), name
        assert found.location == bare.location, name
        assert [str(note) for note in found.story] == [str(note) for note in bare.story], name


@pytest.mark.parametrize(
    ("text", "family", "pc"),
    [
        ("load program: permission denied: invalid access to packet, off=0 size=4, R4(id=0,off=0,r=0): R4 "
         "offset is outside of the packet (200 line(s) omitted)", "packet-bounds", None),
        ("field F: program f: load program: permission denied: 2908: (69) r5 = *(u16 *)(r1 +36): R1 invalid "
         "mem access 'map_value_or_null' (4703 line(s) omitted)", "unchecked-null", 2908),
        ("load program: argument list too long: 2069: (55) if r8 != 0x0 goto pc-727: BPF program is too "
         "large. Processed 1000001 insn (truncated, 26014 line(s) omitted) (BTF disabled)",
         "too-complex", 2069),
        ("load program: invalid argument: unknown func bpf_probe_read#4 (3 line(s) omitted)",
         "helper-not-allowed", None),
    ],
)  # fmt: skip
def test_one_line_errors_of_go(text: str, family: str, pc: int | None) -> None:
    found = explain(text)
    assert found is not None
    assert (found.family, found.pc) == (family, pc)
    assert "omitted" not in found.reason
