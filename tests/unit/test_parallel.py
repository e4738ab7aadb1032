"""for_each: bounded, ordered, and nobody's failure stops the others."""

import anyio
import pytest

from containerd_py import InvalidArgumentError, for_each
from containerd_py._flows.parallel import unwrapped


async def test_results_keep_the_order_of_the_items():
    """Results stand where their items stood, whichever was done first."""

    async def later_for_small(number: int) -> int:
        await anyio.sleep(0.001 * (5 - number))
        return number * 2

    assert await for_each(range(5), later_for_small, limit=5) == [0, 2, 4, 6, 8]
    assert await for_each([], later_for_small) == []


async def test_no_more_than_the_limit_run_at_once():
    """So many run at once and no more, and items are taken from their iterator only when there is room."""
    running, most, taken = 0, 0, 0

    def items():
        nonlocal taken
        for number in range(20):
            taken += 1
            assert taken - number <= 1
            yield number

    async def count(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0)
        running -= 1

    await for_each(items(), count, limit=3)
    assert (most, taken) == (3, 20)


async def test_failures_are_gathered_in_order():
    """All others are done before the group is raised; each error says with which item it came."""
    done = []

    async def fail_for_odd(number: int) -> None:
        await anyio.sleep(0.001 * (5 - number))
        if number % 2:
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ExceptionGroup, match="2 of 5 failed") as caught:
        await for_each(range(5), fail_for_odd, limit=5)
    assert [(error.args, error.__notes__) for error in caught.value.exceptions] == [
        ((1,), ["with 1"]),
        ((3,), ["with 3"]),
    ]
    assert sorted(done) == [0, 2, 4]


async def test_a_cancellation_ends_all_of_them():
    """A scope around it cancels what runs and begins nothing more."""
    begun = []

    async def wait(number: int) -> None:
        begun.append(number)
        await anyio.sleep_forever()

    with anyio.move_on_after(0.01) as scope:
        await for_each(range(10), wait, limit=2)
    assert scope.cancelled_caught
    assert begun == [0, 1]


async def test_a_limit_that_lets_nothing_happen_is_refused():
    """A limit below 1 is a mistake, not an endless wait."""
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        await for_each([1], anyio.sleep, limit=0)


def test_groups_of_one_are_unwrapped():
    """A group that holds one error, however deep, raises that error with its cause; a larger one stays."""
    error = ValueError("inner")
    error.__cause__ = KeyError("why")
    with pytest.raises(ValueError) as caught, unwrapped():
        raise ExceptionGroup("outer", [ExceptionGroup("middle", [error])])
    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)
    with pytest.raises(ExceptionGroup, match="two"), unwrapped():
        raise ExceptionGroup("two", [ValueError(), ValueError()])
