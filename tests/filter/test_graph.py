"""The picture: valid SVG, every instruction in it once, nothing on top of anything else."""

from __future__ import annotations

import random
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from skep.asm import assemble_classic
from skep.filter.explain import explain
from skep.filter.graph import svg
from skep.isa import ClassicInsn
from tests.asm import corpus
from tests.support import libpcap, oracles

NS = "{http://www.w3.org/2000/svg}"
EXPRESSIONS = [
    "ip", "ip and tcp port 8080", "port 53", "host 10.0.0.1 or host 10.0.0.2 or net 192.168.0.0/16",
    "vlan 5 and tcp dst port 443 or icmp6", "ip6 protochain 6", "portrange 1000-2000 and greater 100",
    "(host 10.0.0.1 or 10.0.0.2 or 10.0.0.3) and (port 53 or 80 or 443) and not vlan",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
]  # fmt: skip


def compiled(expression: str) -> list[ClassicInsn]:
    insns = libpcap.compile(expression).insns
    assert insns is not None
    return [ClassicInsn(*insn) for insn in insns]


class Box:
    def __init__(self, element: ET.Element) -> None:
        self.left, self.top = float(element.get("x", "0")), float(element.get("y", "0"))
        self.right = self.left + float(element.get("width", "0"))
        self.bottom = self.top + float(element.get("height", "0"))

    def meets(self, other: Box) -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def read(text: str) -> tuple[ET.Element, list[Box], list[ET.Element]]:
    root = ET.fromstring(text)
    boxes = [Box(rect) for rect in root.iter(f"{NS}rect") if rect.get("class")]
    return root, boxes, list(root.iter(f"{NS}text"))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_everything_is_shown_and_nothing_overlaps(expression: str) -> None:
    program = compiled(expression)
    text = svg(program)
    root, boxes, texts = read(text)
    for at, one in enumerate(boxes):
        assert not any(one.meets(other) for other in boxes[at + 1 :])
    assert root.tag == f"{NS}svg"
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    assert all(box.left >= 0 and box.right <= width and box.bottom <= height for box in boxes)
    shown = [element.text for element in texts if "pc" in (element.get("class") or "").split()]
    pills = len(re.findall(r'text-anchor="middle"', text))
    returns = sum(insn.code & 7 == 6 for insn in program)
    assert len(shown) == len(set(shown)) >= len(program) - (returns if pills else 0)
    said = explain(program)
    words = {element.text for element in texts if element.get("class") == "say"}
    assert {said[int(number or "")] for number in shown} == words


def test_every_edge_is_drawn_in_its_colour() -> None:
    program = compiled("host 10.0.0.1 and port 53")
    root, _, _ = read(svg(program))
    edges = [path for path in root.iter(f"{NS}path") if path.get("class") == "edge"]
    jumps = [insn for insn in program if insn.code & 7 == 5 and insn.code & 0xF0]
    assert sum(path.get("stroke") == "#1a7f37" for path in edges) == len(jumps)
    assert sum(path.get("stroke") == "#cf222e" for path in edges) == len(jumps)


def test_accept_and_reject_look_different() -> None:
    text = svg(compiled("ip"))
    assert 'class="accept"' in text and 'class="reject"' in text
    many = svg(compiled(" or ".join(f"port {n}" for n in range(1, 9))))
    assert ">reject</text>" in many and ">accept 262144</text>" in many


@pytest.mark.parametrize(
    "text", ["ret #0", "ret a", "ld [0]\nret a", "ja a\nret #1\na: ret #0", "jeq #1, a\na: ret #0"]
)
def test_small_programs(text: str) -> None:
    ET.fromstring(svg(assemble_classic(text)))


def test_no_program_at_all() -> None:
    ET.fromstring(svg([]))


def test_any_instructions_make_a_picture() -> None:
    """Jumps out of the program and unknown opcodes too."""
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    for _ in range(15):
        _, boxes, _ = read(svg(corpus.classic_program(rng, rng.randrange(1, 60))))
        for at, one in enumerate(boxes):
            assert not any(one.meets(other) for other in boxes[at + 1 :])
    wild = [
        ClassicInsn(rng.randrange(256), rng.randrange(256), rng.randrange(256), rng.getrandbits(32))
        for _ in range(100)
    ]
    ET.fromstring(svg(wild))


def test_a_renderer_takes_it(tmp_path: Path) -> None:
    tool = oracles.tool("rsvg-convert")
    file = tmp_path / "graph.svg"
    file.write_text(svg(compiled(EXPRESSIONS[3])))
    subprocess.run([tool, "-o", tmp_path / "graph.png", file], check=True)
    assert (tmp_path / "graph.png").stat().st_size > 5000
