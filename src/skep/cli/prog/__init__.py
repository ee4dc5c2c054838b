"""`skep prog`: loaded programs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


VERBS = {
    "show": "skep.cli.prog.show:show",
    "list": "skep.cli.prog.show:show",
    "dump": "skep.cli.prog.dump:dump",
    "pin": "skep.cli.prog.attach:pin",
    "load": "skep.cli.prog.load:load",
    "loadall": "skep.cli.prog.load:loadall",
    "attach": "skep.cli.prog.attach:attach",
    "detach": "skep.cli.prog.attach:detach",
    "tracelog": "skep.cli.prog.tracelog:tracelog",
    "run": "skep.cli.prog.run:run",
    "profile": "skep.cli.prog.profile:profile",
}

USAGE = """\
usage: skep prog { show | list } [PROG]
       skep prog dump xlated PROG [{ file FILE | [opcodes] [linum] [visual] }]
       skep prog dump jited PROG [{ file FILE | [opcodes] [linum] }]
       skep prog pin PROG FILE
       skep prog { load | loadall } OBJ PATH [type TYPE] [{ offload_dev | xdpmeta_dev } NAME]
                 [pinmaps DIR] [autoattach] [map { idx IDX | name NAME } MAP]
       skep prog attach PROG ATTACH_TYPE [MAP]
       skep prog detach PROG ATTACH_TYPE [MAP]
       skep prog run PROG [data_in FILE] [data_out FILE] [data_size_out N]
                 [ctx_in FILE] [ctx_out FILE] [ctx_size_out N] [repeat N]
       skep prog profile PROG [duration SECONDS] [METRICs]
       skep prog tracelog

       PROG := { id ID | pinned FILE | tag TAG | name NAME }
       MAP := { id ID | pinned FILE | name NAME }
       ATTACH_TYPE := { sk_msg_verdict | sk_skb_verdict | sk_skb_stream_verdict | sk_skb_stream_parser |
                        flow_dissector | … }
       METRIC := { cycles | instructions | l1d_loads | llc_misses | itlb_misses | dtlb_misses |
                   cpu_clock | task_clock | page_faults | context_switches }
"""


def main(argv: Sequence[str]) -> int:
    from skep.cli.noun.command import run

    return run("prog", VERBS, USAGE, argv)
