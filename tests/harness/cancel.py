"""Cancel a flow at its k-th suspension point and say what became of it.

A suspension point is one moment at which the flow, or any task the flow creates, hands control back to the event loop.
A sweep over all k visits every place where a cancellation can strike. Knows asyncio and anyio; knows nothing of
containerd.
"""

import math
from collections.abc import AsyncGenerator, Collection, Iterable
from typing import Final

from tests.harness.cancel_driver import Flow, Injection
from tests.harness.cancel_outcome import Mode, Outcome, Status

__all__ = ["DEFAULT_LIMIT", "Flow", "Mode", "Outcome", "Status", "Tally", "cancel_at", "count_suspensions", "sweep"]

DEFAULT_LIMIT: Final = 60.0  # seconds one run of a flow may take before it counts as hung


async def count_suspensions(flow: Flow, *, limit: float = DEFAULT_LIMIT) -> int:
    """Run ``flow`` undisturbed and count its suspension points; its errors are raised."""
    injection = Injection(flow, point=None, mode=Mode.TASK, again=())
    outcome = await injection.run(limit)
    return _undisturbed(outcome).suspensions


async def cancel_at(
    flow: Flow, point: int, *, mode: Mode = Mode.SCOPE, again: Collection[int] = (), limit: float = DEFAULT_LIMIT
) -> Outcome:
    """Run ``flow`` and cancel it at its ``point``-th suspension point (the first is 1).

    ``again`` cancels natively (task.cancel(), which no shield keeps out) so many points after the first
    delivery: ``(1,)`` strikes inside the cleanup, ``range(1, 1000)`` is a storm. A run longer than ``limit``
    seconds is reported as hung.
    """
    if point < 1:
        raise ValueError(f"suspension points count from 1, not {point}")
    return await Injection(flow, point=point, mode=mode, again=again).run(limit)


async def sweep(
    flow: Flow,
    *,
    every: int = 1,
    start: int = 1,
    modes: Iterable[Mode] = tuple(Mode),
    again: Collection[int] = (),
    limit: float = DEFAULT_LIMIT,
) -> AsyncGenerator[Outcome, None]:
    """Run ``flow`` over and over, cancelled at point ``start``, ``start + every`` … until it ends before the point.

    Yields the outcomes in which the cancel fired, for each mode. An undisturbed run that raises ends the sweep with
    that error; a flow that never suspends is an error, for nothing would have been tested.
    """
    for mode in modes:
        total = await count_suspensions(flow, limit=limit)
        if total < start:
            raise AssertionError(f"nothing to cancel: {total} suspension points, sweep starts at {start}")
        point = start
        while True:
            outcome = await cancel_at(flow, point, mode=mode, again=again, limit=limit)
            if outcome.fired:
                yield outcome
            else:
                _undisturbed(outcome)
                if point > total:
                    break
            point += every


def _undisturbed(outcome: Outcome) -> Outcome:
    if outcome.status is Status.FINISHED:
        return outcome
    if outcome.error is not None:
        raise outcome.error
    outcome.check()
    raise AssertionError(f"the flow was {outcome.status.value} though nobody cancelled it")


class Tally:
    """Count outcomes of a sweep and measure how quickly cancellation returned."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def delivered(self) -> int:
        return sum(outcome.delivered for outcome in self.outcomes)

    def latency(self, quantile: float = 1.0) -> float:
        """Return the ``quantile`` of the cancel-to-return times, seconds (1.0: the slowest)."""
        times = sorted(outcome.latency for outcome in self.outcomes if outcome.latency is not None)
        return times[max(0, math.ceil(quantile * len(times)) - 1)] if times else 0.0

    def __str__(self) -> str:
        parts = [f"{len(self.outcomes)} injections, {self.delivered} delivered"]
        for mode in Mode:
            of_mode = [outcome for outcome in self.outcomes if outcome.mode is mode]
            statuses = {status: sum(outcome.status is status for outcome in of_mode) for status in Status}
            counts = ", ".join(f"{count} {status.value}" for status, count in statuses.items() if count)
            if counts:
                parts.append(f"{mode.value}: {counts}")
        parts.append(f"latency p99 {self.latency(0.99):.3f} s, max {self.latency():.3f} s")
        return "; ".join(parts)
