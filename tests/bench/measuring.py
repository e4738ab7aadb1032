"""Comparing ways to do the same job: interleaved runs, medians, ratios. Absolute times are noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

import attrs

Job = Callable[[], Awaitable[object]]


@attrs.frozen
class Comparison:
    """Seconds that each way took, in order of its runs; `baseline` names the way the others are compared with."""

    title: str
    baseline: str
    seconds: Mapping[str, list[float]]
    note: str = ""  # what one run amounts to, for rates

    def rows(self) -> list[str]:
        """Return a line for each way: median, spread and its ratio to the baseline's median."""
        base = statistics.median(self.seconds[self.baseline])
        lines = [f"{self.title}{f'  ({self.note})' if self.note else ''}"]
        for name, seconds in self.seconds.items():
            median = statistics.median(seconds)
            spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
            ratio = "baseline" if name == self.baseline else f"{median / base:.2f} x {self.baseline}"
            lines.append(f"    {name:28} {median:8.3f} s  ({spread}, {len(seconds)} runs)  {ratio}")
        return lines


async def compare(
    title: str,
    jobs: Mapping[str, Job],
    *,
    baseline: str,
    runs: int = 5,
    reset: Job | None = None,
    note: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Run every job `runs` times, in turn, after one run each that does not count; `reset` precedes every run.

    `time.process_time` as the clock counts this process alone: for what computes, beside a daemon or others at work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(runs + 1):
        order = list(jobs.items())
        for name, job in order if turn % 2 else reversed(order):
            if reset is not None:
                await reset()
            began = clock()
            await job()
            if turn > 0:
                seconds[name].append(clock() - began)
    return Comparison(title, baseline, seconds, note)
