"""What is aimed at, and the table that says what was reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from tests.bench.measuring import Comparison


@attrs.frozen
class Goal:
    """`way` against `against` in the comparison `title`: at most so many times its time, or at least its rate."""

    title: str
    way: str
    against: str
    at_most: float | None = None
    at_least: float | None = None

    def row(self, comparison: Comparison) -> str:
        """Return the table's line for what was measured."""
        ours, theirs = comparison.median(self.way), comparison.median(self.against)
        if self.at_most is not None:
            goal, ratio = f"≤ {self.at_most:g} x", ours / theirs
            is_reached, what = ratio <= self.at_most, "time"
        else:
            goal, ratio = f"≥ {self.at_least:g} x", theirs / ours
            is_reached, what = ratio >= (self.at_least or 0), "rate"
        note = f"; {comparison.note}" if comparison.note else ""
        return (
            f"| {self.title} | {self.way} | {goal} the {what} of {self.against} | {ratio:.2f} x "
            f"({ours:.3f} s, {theirs:.3f} s{note}) | {'yes' if is_reached else 'no'} |"
        )


HEAD: Final = ("| work | way | goal | reached (medians) | |", "|---|---|---|---|---|")
OURS, CLIENT, TRANSFER = "containerd_py", "containerd_py client-side", "containerd_py transfer"
AIO, STOCK, PULL, LOCAL = "grpcio.aio", "stock grpclib", "ctr image pull", "ctr image pull --local"
PULL_OF_OLD = "ctr image pull of 1.x"
BIG, SMALL = "pull of 8 x 64 MiB layers, unpacked", "pull of 60 x 64 KiB layers, unpacked"
GOALS: Final = (
    Goal("list 1,000 containers", "containerd_py, records", "grpcio.aio, messages", at_most=1.5),
    Goal("decode a list of 1,000 containers", OURS, "betterproto2", at_least=9),
    Goal("encode a list of 1,000 containers", OURS, "betterproto2", at_least=9),
    Goal("unary: 500 Version calls in turn", OURS, AIO, at_least=1),
    Goal("unary: 2,000 Version calls, 50 at once", OURS, AIO, at_least=1),
    Goal("content write, 256 MiB", OURS, STOCK, at_least=1.6),
    Goal("content write, 256 MiB", OURS, AIO, at_least=2),
    Goal("content write, 256 MiB", OURS, "ctr content ingest", at_least=1),
    Goal("content write, 256 MiB", OURS, "its bytes sent again", at_most=1.05),
    Goal("content read, 256 MiB", OURS, STOCK, at_least=2.5),
    Goal("content read, 256 MiB", OURS, AIO, at_least=1.3),
    Goal("content read, 256 MiB", OURS, "ctr content get", at_least=1),
    Goal(BIG, CLIENT, LOCAL, at_most=1),
    Goal(BIG, CLIENT, PULL, at_most=1.5),
    Goal(BIG, CLIENT, PULL_OF_OLD, at_most=1),
    Goal(SMALL, CLIENT, LOCAL, at_most=1),
    Goal(SMALL, CLIENT, PULL, at_most=1.5),
    Goal(SMALL, CLIENT, PULL_OF_OLD, at_most=1),
    Goal(BIG, TRANSFER, PULL, at_most=1.02),
    Goal(SMALL, TRANSFER, PULL, at_most=1.02),
    Goal("run one container to its end and remove it", OURS, "ctr run --rm", at_most=1.05),
    Goal("200 containers, 20 at once", OURS, "ctr run --rm", at_least=1),
    Goal("exec in a running container", OURS, "ctr task exec", at_most=1.05),
    Goal("1 GiB through a task's stdout", OURS, "os.readv in a thread", at_most=1.05),
)


def table(measured: Iterable[Comparison]) -> list[str]:
    """Return the table of every goal that was measured, in the order of the goals."""
    by_title: dict[str, Comparison] = {}
    for comparison in measured:
        by_title.setdefault(comparison.title, comparison)
    rows = []
    for goal in GOALS:
        comparison = by_title.get(goal.title)
        if comparison is not None and {goal.way, goal.against} <= set(comparison.seconds):
            rows.append(goal.row(comparison))
    return [*HEAD, *rows] if rows else []
