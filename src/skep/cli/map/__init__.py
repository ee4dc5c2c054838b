"""`skep map`: maps and what they hold."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


VERBS = {
    "show": "skep.cli.map.show:show",
    "list": "skep.cli.map.show:show",
    "dump": "skep.cli.map.entries:dump",
    "update": "skep.cli.map.change:update",
    "lookup": "skep.cli.map.entries:lookup",
    "getnext": "skep.cli.map.entries:getnext",
    "delete": "skep.cli.map.change:delete",
    "pin": "skep.cli.map.change:pin",
    "event_pipe": "skep.cli.map.event_pipe:event_pipe",
    "peek": "skep.cli.map.entries:lookup",
    "push": "skep.cli.map.change:update",
    "enqueue": "skep.cli.map.change:update",
    "pop": "skep.cli.map.entries:pop",
    "dequeue": "skep.cli.map.entries:pop",
    "freeze": "skep.cli.map.change:freeze",
    "create": "skep.cli.map.create:create",
}

USAGE = """\
usage: skep map { show | list } [MAP]
       skep map create FILE type TYPE key KEY_SIZE value VALUE_SIZE entries MAX_ENTRIES name NAME
                [flags FLAGS] [inner_map MAP] [dev NAME]
       skep map dump MAP
       skep map update MAP [key DATA] [value VALUE] [UPDATE_FLAGS]
       skep map lookup MAP [key DATA]
       skep map getnext MAP [key DATA]
       skep map delete MAP key DATA
       skep map pin MAP FILE
       skep map event_pipe MAP [cpu N index M]
       skep map peek MAP
       skep map { push | enqueue } MAP value VALUE
       skep map { pop | dequeue } MAP
       skep map freeze MAP

       MAP := { id ID | pinned FILE | name NAME }
       DATA := { [hex] BYTES }            decimal, 0x… or, after hex, hex digits, one word a byte
       VALUE := { DATA | MAP | PROG }     MAP and PROG in maps of maps and of programs
       PROG := { id ID | pinned FILE | tag TAG | name NAME }
       UPDATE_FLAGS := { any | exist | noexist }
"""


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("map", VERBS, USAGE, argv)
