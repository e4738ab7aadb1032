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
    cpu: Mapping[str, list[float]] = attrs.field(factory=dict)  # seconds of this process's, children left out

    def median(self, way: str) -> float:
        """Return a way's median, in seconds."""
        return statistics.median(self.seconds[way])

    def without(self, start_up: float, way: str) -> Comparison:
        """Subtract what a way spends on starting a process, in seconds."""
        seconds = [max(0.0, second - start_up) for second in self.seconds[way]]
        noted = self.noted(f"{start_up:.3f} s of start-up subtracted from {way}")
        return attrs.evolve(noted, seconds={**self.seconds, way: seconds})

    def noted(self, note: str) -> Comparison:
        """Add a note."""
        return attrs.evolve(self, note=f"{self.note}; {note}" if self.note else note)

    def rows(self) -> list[str]:
        """Return a line for each way: median, spread and its ratio to the baseline's median."""
        base = statistics.median(self.seconds[self.baseline])
        lines = [f"{self.title}{f'  ({self.note})' if self.note else ''}"]
        for name, seconds in self.seconds.items():
            median = statistics.median(seconds)
            spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
            ratio = "baseline" if name == self.baseline else f"{median / base:.2f} x {self.baseline}"
            cpu = f", {statistics.median(self.cpu[name]):.3f} s of our CPU" if name in self.cpu else ""
            lines.append(f"    {name:28} {median:8.3f} s  ({spread}, {len(seconds)} runs{cpu})  {ratio}")
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
    warm: bool = True,
) -> Comparison:
    """Run every job `runs` times, in turn, after one run each that does not count; `reset` precedes every run.

    `time.process_time` as the clock counts this process alone: for what computes, beside a daemon or others at work.
    `warm` False leaves the first, uncounted runs out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    cpu: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(0 if warm else 1, runs + 1):
        order = list(jobs.items())
        for name, job in order if turn % 2 else reversed(order):
            if reset is not None:
                await reset()
            began, cpu_began = clock(), time.process_time()
            await job()
            if turn > 0:
                seconds[name].append(clock() - began)
                cpu[name].append(time.process_time() - cpu_began)
    return Comparison(title, baseline, seconds, note, {} if clock is time.process_time else cpu)
