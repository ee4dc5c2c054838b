"""JSON in bpftool's form: the quick writer of long lists against the one that knows everything."""

from __future__ import annotations

import json
import os
import random

import pytest

from skep.cli.noun.jsontext import rows, text

SEED = int(os.environ.get("SKEP_SEED", "11"))


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_long_lists_are_written_as_others(count: int) -> None:
    rng = random.Random(SEED)
    letters = [*map(chr, range(300)), '"', "\\", "'", "/", "\x7f", "\u2028", "\U0001f600"]

    def word() -> str:
        return "".join(rng.choices(letters, k=rng.randrange(12)))

    values: list[dict[str, object]] = [
        {word(): rng.choice((True, None, -(1 << 63), (1 << 64) - 1)), "list": [word(), {"in": []}], "x": {}}
        for _ in range(count)
    ]
    written = "".join(rows(iter(values)))
    assert written == text(values)
    assert json.loads(written) == values
