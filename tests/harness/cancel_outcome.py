"""What a cancelled flow did: values only."""

import enum

import attrs


class Mode(enum.Enum):
    """Who cancels the flow."""

    SCOPE = "scope"  # anyio: CancelScope.cancel(), delivered again at every checkpoint until the scope is left
    TASK = "task"  # asyncio: task.cancel(), delivered once
    TIMEOUT = "timeout"  # asyncio.timeout() that runs out
    GROUP = "group"  # asyncio.TaskGroup in which a sibling fails (strikes up to two loop turns after the point)


class Status(enum.Enum):
    """How the flow ended."""

    CANCELLED = "cancelled"
    FINISHED = "finished"
    RAISED = "raised"
    HUNG = "hung"


@attrs.frozen(kw_only=True)
class Outcome:
    """What one run did; ``fired`` and ``delivered`` prove that the cancellation took place."""

    point: int
    mode: Mode
    status: Status
    fired: bool  # the flow reached the point and the cancellation was requested
    delivered: bool  # a CancelledError of ours entered the flow
    swallowed: bool  # it entered the flow's own task, and the flow returned as if nothing had happened
    excess: int  # task.cancelling() beyond what the harness itself asked for; 0 is balanced
    suspensions: int  # points passed in all
    delivered_at: int | None  # points passed when it entered; equals ``point`` when it struck exactly there
    repeats: int  # further native cancels, see ``again``
    latency: float | None  # seconds from the request to the flow's end
    where: str  # call chain at the point, innermost last
    value: object = None
    error: BaseException | None = None
    orphans: tuple[str, ...] = ()  # tasks of the flow that outlived it
    loop_errors: tuple[str, ...] = ()  # messages that reached the loop's exception handler
    stacks: tuple[str, ...] = ()  # call chains of all tasks, when hung

    def problems(self, *, raises: tuple[type[BaseException], ...] = ()) -> list[str]:
        """List what is wrong with this outcome; an error in ``raises`` is an acceptable end."""
        found = []
        if self.status is Status.HUNG:
            found.append("hung:\n" + "\n---\n".join(self.stacks))
        if self.status is Status.RAISED and not isinstance(self.error, raises):
            found.append(f"raised {self.error!r}")
        if self.swallowed:
            found.append("swallowed the cancellation")
        if self.excess and self.status is not Status.HUNG:
            found.append(f"task.cancelling() is off by {self.excess:+d}")
        found += [f"orphan task {orphan}" for orphan in self.orphans]
        found += [f"loop error: {message}" for message in self.loop_errors]
        return found

    def check(self, *, raises: tuple[type[BaseException], ...] = ()) -> None:
        """Fail unless the flow was cancelled (or had ended before the cancel could strike) and left nothing behind."""
        found = self.problems(raises=raises)
        if found:
            title = f"cancel at point {self.point} ({self.mode.value}) at\n{self.where}\n"
            raise AssertionError(title + "\n".join(f"- {problem}" for problem in found)) from self.error
