"""Drive the coroutines of a flow by hand: count their suspension points, strike at one, watch what comes out.

The machinery under ``cancel``: one ``Injection`` is one run of a flow. Knows asyncio and anyio, nothing of containerd.
"""

import asyncio
import contextvars
import gc
import linecache
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

import anyio

from tests.harness.cancel_outcome import Mode, Outcome, Status

Flow = Callable[[], Awaitable[object]]

SETTLE_LIMIT: Final = 1.0  # seconds that tasks of a flow may outlive it before they count as orphans
_TOKEN: Final = "cancelled by the harness"
_SCOPE_MESSAGE: Final = "Cancelled via cancel scope"  # how the cancellations of anyio begin

_active: contextvars.ContextVar["Injection | None"] = contextvars.ContextVar("_active", default=None)


class _SiblingError(Exception):
    """Raised by the sibling task of mode GROUP."""


class Injection:
    """One run of a flow: counts, fires, watches."""

    def __init__(self, flow: Flow, *, point: int | None, mode: Mode, again: Collection[int]) -> None:
        self._flow = flow
        self._point = point
        self._mode = mode
        self._again = again
        self._loop = asyncio.get_running_loop()
        self._driven: list[tuple[_Driven, asyncio.Task[Any]]] = []
        self._flow_task: asyncio.Task[Any] | None = None  # the task whose frame runs the flow itself
        self._strike: Callable[[], object] = _nothing
        self._ended = False
        self._count = 0
        self._fired_at: float | None = None
        self._ended_at = 0.0
        self._where = ""
        self._delivered_at: int | None = None
        self._entered_flow_task = False
        self._natives = 0  # task.cancel() calls of ours that found the flow's task alive
        self._repeats = 0
        self._status = Status.HUNG
        self._value: object = None
        self._error: BaseException | None = None
        self._excess = 0
        self._scope_mark = ""
        self._loop_errors: list[str] = []

    # -- running ------------------------------------------------------------------------------------------------

    async def run(self, limit: float) -> Outcome:
        previous_factory = self._loop.get_task_factory()
        previous_handler = self._loop.get_exception_handler()
        self._loop.set_task_factory(_chain_factories(previous_factory))
        self._loop.set_exception_handler(self._on_loop_error)
        root = self._loop.create_task(self._root(), name="cancel-harness", context=contextvars.copy_context())
        stacks: tuple[str, ...] = ()
        try:
            done, _ = await asyncio.wait([root], timeout=limit)
            if not done:
                stacks = tuple(_call_chain(driver.inner) for driver, task in self._driven if not task.done())
            orphans = await self._settle() if done else ()
        finally:
            await _end(root)
            self._ended = True
            self._loop.set_task_factory(previous_factory)
            self._loop.set_exception_handler(previous_handler)
        if not stacks:
            root.result()
        return self._outcome(orphans, stacks)

    def _outcome(self, orphans: tuple[str, ...], stacks: tuple[str, ...]) -> Outcome:
        status = Status.HUNG if stacks else self._status
        return Outcome(
            point=self._point or 0,
            mode=self._mode,
            status=status,
            fired=self._fired_at is not None,
            delivered=self._delivered_at is not None,
            swallowed=self._entered_flow_task and status is Status.FINISHED,
            excess=self._excess,
            suspensions=self._count,
            delivered_at=self._delivered_at,
            repeats=self._repeats,
            latency=None if self._fired_at is None else max(0.0, self._ended_at - self._fired_at),
            where=self._where,
            value=self._value,
            error=self._error,
            orphans=orphans,
            loop_errors=tuple(self._loop_errors),
            stacks=stacks,
        )

    async def _root(self) -> None:
        runners = {
            Mode.SCOPE: self._run_in_scope,
            Mode.TASK: self._run_as_task,
            Mode.TIMEOUT: self._run_in_timeout,
            Mode.GROUP: self._run_in_group,
        }
        await runners[self._mode]()

    async def _run_in_scope(self) -> None:
        async def body() -> None:
            with anyio.CancelScope() as scope:
                self._scope_mark = f"{id(scope):x}"
                self._strike = lambda: self._loop.call_soon(scope.cancel)
                await self._guarded()

        await self._observe(body)

    async def _run_in_timeout(self) -> None:
        async def body() -> None:
            async with asyncio.timeout(None) as timeout:
                self._strike = lambda: timeout.reschedule(self._loop.time())
                await self._guarded()

        await self._observe(body)

    async def _run_as_task(self) -> None:
        async def body() -> None:
            self._strike = lambda: self._loop.call_soon(self._cancel_natively)
            await self._guarded()

        await self._observe(body)

    async def _run_in_group(self) -> None:
        signal = self._loop.create_future()

        async def sibling() -> None:
            await signal
            raise _SiblingError

        try:
            async with asyncio.TaskGroup() as group:
                failing = group.create_task(sibling())  # created before _observe, so it is not driven
                self._strike = lambda: signal.set_result(None)
                await self._observe(self._guarded, group=group)
                failing.cancel()
        except* _SiblingError:
            pass

    async def _observe(
        self, body: Callable[[], Coroutine[Any, Any, None]], *, group: asyncio.TaskGroup | None = None
    ) -> None:
        """Run ``body`` as a driven task; then compare its cancelling() with what the harness asked for."""

        async def observed() -> None:
            task = self._flow_task = _current_task()
            try:
                await body()
            except (Exception, asyncio.CancelledError, BaseExceptionGroup):
                if self._status is Status.HUNG:
                    raise
            finally:
                by_group = int(group is not None and self._delivered_at is not None)
                self._excess = task.cancelling() - self._natives - by_group

        token = _active.set(self)
        try:
            task = group.create_task(observed()) if group else self._loop.create_task(observed(), name="flow")
        finally:
            _active.reset(token)
        try:
            await asyncio.wait([task])
        finally:
            if group is None and not task.done():  # only a hung flow comes here
                task.cancel()
        if not task.cancelled():
            task.result()

    async def _guarded(self) -> None:
        try:
            self._value = await self._flow()
        except asyncio.CancelledError:
            self._finish(Status.CANCELLED)
            raise
        except (Exception, BaseExceptionGroup) as error:
            self._error = error
            self._finish(Status.RAISED)
            raise
        else:
            self._finish(Status.FINISHED)

    def _finish(self, status: Status) -> None:
        self._status = status
        self._ended_at = time.perf_counter()
        self._ended = True

    def _cancel_natively(self) -> None:
        if self._flow_task is not None and self._flow_task.cancel(_TOKEN):
            self._natives += 1

    async def _settle(self) -> tuple[str, ...]:
        deadline = time.perf_counter() + SETTLE_LIMIT
        delay = 0.0
        while True:
            orphans = [(driver, task) for driver, task in self._driven if not task.done()]
            if not orphans or time.perf_counter() > deadline:
                return tuple(f"{task.get_name()}:\n{_call_chain(driver.inner)}" for driver, task in orphans)
            await asyncio.sleep(delay)
            delay = min(delay + 0.001, 0.02)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._loop_errors.append(f"{context.get('message')} {context.get('exception')!r}")

    # -- called by the drivers ----------------------------------------------------------------------------------

    def adopt(self, driver: "_Driven", task: asyncio.Task[Any]) -> None:
        self._driven.append((driver, task))

    def suspended(self, driver: "_Driven") -> None:
        if self._ended:
            return
        self._count += 1
        if self._count == self._point:
            self._where = _call_chain(driver.inner)
            self._fired_at = time.perf_counter()
            # The strike happens in a later callback of the loop, yet before anything that could wake this task:
            # callbacks run in order and the task's own wake-up is not scheduled before we return.
            self._strike()
        elif self._delivered_at is not None and self._count - self._delivered_at in self._again and self._flow_task:
            self._repeats += 1
            self._loop.call_soon(self._cancel_natively)

    def thrown(self, driver: "_Driven", error: BaseException) -> None:
        if self._fired_at is None or not isinstance(error, asyncio.CancelledError) or not self._is_ours(driver, error):
            return
        if self._delivered_at is None:
            self._delivered_at = self._count
        if driver.task is self._flow_task and not self._ended:
            self._entered_flow_task = True

    def _is_ours(self, driver: "_Driven", error: asyncio.CancelledError) -> bool:
        message = str(error.args[0]) if error.args else ""
        if self._mode is Mode.SCOPE:
            return message == _TOKEN or self._scope_mark in message
        if message == _TOKEN or (message == "" and self._mode is not Mode.TASK):
            return True
        # Where another one, natively asked for, came first in the same turn, ours has no error of its own: only the
        # task's count tells.
        is_by_scope = message.startswith(_SCOPE_MESSAGE)
        return not is_by_scope and driver.task is not None and driver.task.cancelling() > 1


class _Driven(Coroutine[Any, Any, Any]):
    """Stand in for a coroutine in its task, reporting each suspension and each exception thrown in."""

    def __init__(self, inner: Coroutine[Any, Any, Any], injection: Injection) -> None:
        self.inner = inner
        self.task: asyncio.Task[Any] | None = None
        self._injection = injection
        self.__name__ = getattr(inner, "__name__", type(inner).__name__)
        self.__qualname__ = getattr(inner, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        yielded = self.inner.send(value)
        self._injection.suspended(self)
        return yielded

    def throw(self, typ: Any, val: Any = None, _tb: TracebackType | None = None, /) -> Any:
        error = val if isinstance(val, BaseException) else typ
        self._injection.thrown(self, error)
        yielded = self.inner.throw(error)
        self._injection.suspended(self)
        return yielded

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.inner.__await__()

    # anyio and asyncio look at these through inspect.getcoroutinestate() and task.get_stack().
    @property
    def cr_running(self) -> bool:
        return bool(getattr(self.inner, "cr_running", False))

    @property
    def cr_suspended(self) -> bool:
        return bool(getattr(self.inner, "cr_suspended", False))

    @property
    def cr_frame(self) -> FrameType | None:
        return getattr(self.inner, "cr_frame", None)

    @property
    def cr_await(self) -> Any:
        return getattr(self.inner, "cr_await", None)

    @property
    def cr_code(self) -> Any:
        return getattr(self.inner, "cr_code", None)


class _TaskFactory(Protocol):
    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, /, **options: Any) -> asyncio.Future[Any]: ...


def _chain_factories(previous: Any) -> _TaskFactory:
    """Return a task factory that drives the tasks of the running injection and leaves all others alone."""

    def make(loop: asyncio.AbstractEventLoop, coro: Any, /, **options: Any) -> asyncio.Future[Any]:
        injection = _active.get()
        driver = None if injection is None else _Driven(coro, injection)
        target = coro if driver is None else driver
        task: asyncio.Task[Any]
        task = asyncio.Task(target, loop=loop, **options) if previous is None else previous(loop, target, **options)
        if driver is not None and injection is not None:
            driver.task = task
            injection.adopt(driver, task)
        return task

    return make


async def _end(root: asyncio.Task[Any]) -> None:
    """Cancel ``root`` until it is done, a few times at most."""
    for _ in range(10):
        if root.done():
            return
        root.cancel()
        await asyncio.wait([root], timeout=0.5)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not inside a task")
    return task


def _nothing() -> None:
    """Strike nobody."""


def _call_chain(coro: Any) -> str:
    """Render the frames a suspended coroutine stands in, innermost last."""
    lines = []
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            code = frame.f_code
            text = linecache.getline(code.co_filename, frame.f_lineno).strip()
            lines.append(f"  {code.co_filename}:{frame.f_lineno} {code.co_qualname}: {text}")
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or _generator_behind(coro)
    return "\n".join(lines)


def _generator_behind(awaitable: Any) -> Any:
    """Return the async generator that an asend()/athrow() awaitable drives: it has no attribute for that."""
    if hasattr(awaitable, "ag_await"):
        return awaitable.ag_await
    if type(awaitable).__name__.startswith("async_generator_"):
        return next((found for found in gc.get_referents(awaitable) if hasattr(found, "ag_frame")), None)
    return None
