"""A picture of a filter: its control flow as SVG.

Blocks hold their listing and, beside it, each instruction in words. Green edges are taken when the test
holds, red ones when it does not. A return that many blocks go to is drawn beside each of them, as a pill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.asm.tcpdump import operation
from skep.filter.explain import explain
from skep.filter.explain_flow import jump
from skep.filter.graph_layout import Edge, Node, place
from skep.isa import classic as c
from skep.isa.classic import ClassicInsn

_MARGIN: Final = 28.0
_LINE: Final = 18.0
_PAD: Final = 11.0
_MONO: Final = 7.25  # width of a character of 12 px in the widest of the fonts asked for
_NUMBER: Final = 36.0  # room for the slot number
_SANS: Final = 6.75
_PILL: Final = 24.0
_STUB: Final = 46.0  # length of the edge to a pill
#: Returns with more ways in than this become pills.
_MOST_EDGES: Final = 3
#: Ways into any other block beyond which most become pills too.
_CROWD: Final = 12

_YES: Final = "#1a7f37"
_NO: Final = "#cf222e"
_PLAIN: Final = "#57606a"
_STYLE: Final = """
text{font:12px "DejaVu Sans","Segoe UI","Helvetica Neue",Arial,sans-serif;fill:#1f2328}
.code{font-family:"DejaVu Sans Mono","SF Mono",Menlo,Consolas,monospace}
.pc{fill:#8c959f}.say{fill:#0550ae}.label{font-size:11px;font-weight:600}
.box{fill:#fff;stroke:#afb8c1;stroke-width:1.2}.dead{fill:#f6f8fa;stroke-dasharray:4 3}
.accept{fill:#dafbe1;stroke:#1a7f37;stroke-width:1.4}.reject{fill:#ffebe9;stroke:#cf222e;stroke-width:1.4}
.edge{fill:none;stroke-width:1.5}
"""


class _Block:
    """Instructions ``start`` to ``end`` - 1, and where they go on: (target instruction, kind)."""

    __slots__ = ("end", "exits", "number", "start", "stubs")

    def __init__(self, start: int, end: int, exits: list[tuple[int, str]]) -> None:
        self.start = start
        self.end = end
        self.exits = exits
        self.number = 0
        self.stubs: list[tuple[int, str]] = []  # exits drawn as pills


def svg(insns: Sequence[ClassicInsn], linktype: int = 1) -> str:
    """A standalone SVG document of the control flow, for packets of that LINKTYPE_ number."""
    phrases = explain(insns, linktype)
    blocks = _blocks(insns)
    pills = _split_returns(insns, blocks)
    drawn = [block for block in blocks if block.start not in pills]
    for number, block in enumerate(drawn):
        block.number = number
        block.stubs = [(target, kind) for target, kind in block.exits if target in pills]
        block.exits = [(target, kind) for target, kind in block.exits if target not in pills]
    _split_crowds(drawn)
    by_start = {block.start: block for block in drawn}
    nodes = [_node(block, insns, phrases) for block in drawn]
    edges = [
        Edge(block.number, by_start[target].number, kind)
        for block in drawn
        for target, kind in block.exits
        if target in by_start
    ]
    width, height = place(nodes, edges)
    loops = [edge for edge in edges if edge.target <= edge.source]
    width += 26.0 * bool(loops)
    body = [_edge(edge, nodes, drawn) for edge in edges if edge.target > edge.source]
    body += [_loop(edge, nodes, width) for edge in loops]
    for block, node in zip(drawn, nodes, strict=True):
        body += _draw(block, node, insns, phrases)
    w, h = width + 2 * _MARGIN, height + 2 * _MARGIN
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for name, colour in (("yes", _YES), ("no", _NO), ("go", _PLAIN))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h:.0f}" '
        f'viewBox="0 0 {w:.0f} {h:.0f}" role="img">\n'
        f"<title>Control flow of a packet filter of {len(insns)} instructions</title>\n"
        f"<style>{_STYLE}</style>\n<defs>{markers}</defs>\n"
        f'<rect width="100%" height="100%" fill="#fbfcfd"/>\n'
        f'<g transform="translate({_MARGIN:.0f} {_MARGIN:.0f})">\n' + "\n".join(body) + "\n</g>\n</svg>\n"
    )


def _blocks(insns: Sequence[ClassicInsn]) -> list[_Block]:
    """Basic blocks in program order. A jump out of the program has no edge."""
    count = len(insns)
    if not insns:
        return []
    starts = {0}
    for pc, insn in enumerate(insns):
        exits = _exits(insn, pc)
        if exits is not None:
            starts |= {pc + 1, *(target for target, _ in exits)}
    order = sorted(start for start in starts if 0 <= start < count)
    blocks = []
    for start, end in zip(order, [*order[1:], count], strict=True):
        exits = _exits(insns[end - 1], end - 1)
        if exits is None:
            exits = [(end, "go")]
        blocks.append(_Block(start, end, [(target, kind) for target, kind in exits if 0 <= target < count]))
    return blocks


def _exits(insn: ClassicInsn, pc: int) -> list[tuple[int, str]] | None:
    """Where an instruction that ends a block goes; None if it ends none."""
    if insn.code & 7 == c.BPF_RET:
        return []
    if insn.code & 7 != c.BPF_JMP:
        return None
    if insn.code & 0xF0 == c.BPF_JA:
        return [(jump(insn, pc), "go")]
    if insn.jt == insn.jf:
        return [(pc + 1 + insn.jt, "go")]
    return [(pc + 1 + insn.jt, "yes"), (pc + 1 + insn.jf, "no")]


def _split_returns(insns: Sequence[ClassicInsn], blocks: Sequence[_Block]) -> set[int]:
    """Starts of the returns that are drawn as pills beside the blocks that go there."""
    ways: dict[int, int] = {}
    for block in blocks:
        for target, _ in block.exits:
            ways[target] = ways.get(target, 0) + 1
    return {
        block.start
        for block in blocks
        if block.end == block.start + 1
        and insns[block.start].code & 7 == c.BPF_RET
        and ways.get(block.start, 0) > _MOST_EDGES
    }


def _split_crowds(blocks: Sequence[_Block]) -> None:
    """Of the many ways into one block only the last is drawn; the others end in a pill with its number."""
    ways: dict[int, list[_Block]] = {}
    for block in blocks:
        for target, _ in block.exits:
            if target > block.start:
                ways.setdefault(target, []).append(block)
    for target, sources in ways.items():
        if len(sources) <= _CROWD:
            continue
        for block in sources[:-1]:
            block.stubs += [way for way in block.exits if way[0] == target]
            block.exits = [way for way in block.exits if way[0] != target]


def _pill_text(insn: ClassicInsn, target: int) -> str:
    if insn.code & 7 != c.BPF_RET:
        return f"to {target}"
    if insn.code != c.BPF_RET | c.BPF_K:
        return "return A" if insn.code & 0x18 == c.BPF_A else "return X"
    return f"accept {insn.k}" if insn.k else "reject"


def _result_class(insn: ClassicInsn) -> str:
    if insn.code & 7 != c.BPF_RET:
        return "box"
    return "reject" if insn.code == c.BPF_RET | c.BPF_K and not insn.k else "accept"


def _columns(block: _Block, insns: Sequence[ClassicInsn], phrases: Sequence[str]) -> tuple[float, float]:
    """Widths of the listing and of the words."""
    span = range(block.start, block.end)
    code = max(len(_code(insns[pc], pc)) for pc in span) * _MONO + _NUMBER
    said = max(len(phrases[pc]) for pc in span) * _SANS
    return code, said


def _code(insn: ClassicInsn, pc: int) -> str:
    name, operand = operation(insn, pc)
    return f"{name} {operand}".rstrip()


def _node(block: _Block, insns: Sequence[ClassicInsn], phrases: Sequence[str]) -> Node:
    code, said = _columns(block, insns, phrases)
    half = (code + said + 16 + 2 * _PAD) / 2
    stub = 0.0
    for target, _ in block.stubs:
        stub = max(stub, _STUB + len(_pill_text(insns[target], target)) * _SANS + 20)
    height = (block.end - block.start) * _LINE + 2 * _PAD - 4
    return Node(block.number, half, half + stub, max(height, (_PILL + 8) * len(block.stubs)))


def _draw(block: _Block, node: Node, insns: Sequence[ClassicInsn], phrases: Sequence[str]) -> list[str]:
    code, _ = _columns(block, insns, phrases)
    left, top = node.x - node.left, node.y
    kind = _result_class(insns[block.end - 1]) if block.end == block.start + 1 else "box"
    dead = " dead" if phrases[block.start] == "never reached" else ""
    parts = [
        f'<rect class="{kind}{dead}" x="{left:.1f}" y="{top:.1f}" width="{2 * node.left:.1f}" '
        f'height="{node.height:.1f}" rx="6"/>'
    ]
    first = top + node.height / 2 - (block.end - block.start - 1) * _LINE / 2 + 4
    for row, pc in enumerate(range(block.start, block.end)):
        y = first + row * _LINE
        x = left + _PAD + _NUMBER
        parts.append(
            f'<text class="code pc" text-anchor="end" x="{x - 9:.1f}" y="{y:.1f}">{pc}</text>'
            f'<text class="code" x="{x:.1f}" y="{y:.1f}">{_escape(_code(insns[pc], pc))}</text>'
        )
        x = left + _PAD + code + 16
        parts.append(f'<text class="say" x="{x:.1f}" y="{y:.1f}">{_escape(phrases[pc])}</text>')
    for row, (target, way) in enumerate(block.stubs):
        parts += _stub(node, row, len(block.stubs), insns[target], target, way)
    return parts


def _stub(node: Node, row: int, rows: int, insn: ClassicInsn, target: int, way: str) -> list[str]:
    """The edge to a pill at the block's right, and the pill."""
    start = node.x + node.left
    y = node.y + node.height / 2 + (row - (rows - 1) / 2) * (_PILL + 6)
    text = _pill_text(insn, target)
    width = len(text) * _SANS + 18
    parts = [_path(f"M{start:.1f} {y:.1f}H{start + _STUB - 2:.1f}", way)]
    if way != "go":
        parts.append(_label(start + 8, y - 5, way))
    parts.append(
        f'<rect class="{_result_class(insn)}" x="{start + _STUB:.1f}" y="{y - _PILL / 2:.1f}" '
        f'width="{width:.1f}" height="{_PILL:.0f}" rx="{_PILL / 2:.0f}"/>'
        f'<text text-anchor="middle" x="{start + _STUB + width / 2:.1f}" y="{y + 4:.1f}">'
        f"{_escape(text)}</text>"
    )
    return parts


def _path(data: str, way: str) -> str:
    colour = {"yes": _YES, "no": _NO}.get(way, _PLAIN)
    return f'<path class="edge" d="{data}" stroke="{colour}" marker-end="url(#{way})"/>'


def _label(x: float, y: float, way: str, before: bool = False) -> str:
    colour = _YES if way == "yes" else _NO
    side = ' text-anchor="end"' if before else ""
    x -= 12 * before
    return f'<text class="label"{side} x="{x:.1f}" y="{y:.1f}" style="fill:{colour}">{way}</text>'


def _port(edge: Edge, nodes: Sequence[Node], blocks: Sequence[_Block]) -> float:
    """Where an edge leaves its block: two edges leave in the order of what they go to."""
    node = nodes[edge.source]
    exits = blocks[edge.source].exits
    if len(exits) < 2:
        return node.x
    first = edge.via[0].x if edge.via else nodes[edge.target].x
    reach = min(60.0, node.left / 2)
    others = [way for _, way in exits if way != edge.kind]
    return node.x + (-reach if _goes_left(edge, first, nodes, blocks, others) else reach)


def _goes_left(
    edge: Edge, first: float, nodes: Sequence[Node], blocks: Sequence[_Block], others: Sequence[str]
) -> bool:
    """Whether the edge's first point is left of that of the block's other edge."""
    other = next((x for kind, x in _firsts(edge.source, nodes) if kind in others), None)
    if other is None or other == first:
        return edge.kind == "yes"
    return first < other


def _firsts(source: int, nodes: Sequence[Node]) -> list[tuple[str, float]]:
    """(kind, x) of the first point of each edge out of a block: "yes" is made before "no"."""
    down = nodes[source].down
    return list(zip(("yes", "no"), (node.x for node in down), strict=False))


def _entry(edge: Edge, nodes: Sequence[Node]) -> float:
    """Where an edge enters its block: side by side, in the order the edges come from."""
    target = nodes[edge.target]
    last = edge.via[-1] if edge.via else nodes[edge.source]
    ways = sorted(target.up, key=lambda node: node.x)
    at = next((place_ for place_, node in enumerate(ways) if node is last), 0)
    room = min(26.0, 1.4 * target.left / max(len(ways), 1))
    return target.x + (at - (len(ways) - 1) / 2) * room


def _edge(edge: Edge, nodes: Sequence[Node], blocks: Sequence[_Block]) -> str:
    source, target = nodes[edge.source], nodes[edge.target]
    x, y = _port(edge, nodes, blocks), source.y + source.height
    data = [f"M{x:.1f} {y:.1f}"]
    points = [(point.x, point.y, point.y + point.height) for point in edge.via]
    points.append((_entry(edge, nodes), target.y - 1, target.y - 1))
    label = ""
    if edge.kind != "go":  # on the side that the edge does not turn to
        label = _label(x + 6, y + 14, edge.kind, points[0][0] > x + 1)
    if source.clear > y:
        data.append(f"V{source.clear:.1f}")
        y = source.clear
    for to_x, top, bottom in points:
        middle = (y + top) / 2
        data.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {top:.1f}")
        if bottom > top:
            data.append(f"V{bottom:.1f}")
        x, y = to_x, bottom
    return _path("".join(data), edge.kind) + label


def _loop(edge: Edge, nodes: Sequence[Node], width: float) -> str:
    """A jump back, along the right side."""
    source, target = nodes[edge.source], nodes[edge.target]
    start, end = source.x + source.left, target.x + target.left
    y, to_y = source.y + source.height / 2, target.y + target.height / 2
    side = width - 6
    return _path(
        f"M{start:.1f} {y:.1f}H{side - 8:.1f}Q{side:.1f} {y:.1f} {side:.1f} {y - 8:.1f}"
        f"V{to_y + 8:.1f}Q{side:.1f} {to_y:.1f} {side - 8:.1f} {to_y:.1f}H{end + 2:.1f}",
        edge.kind,
    )


def _escape(text: str) -> str:
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(mark, entity)
    return text
