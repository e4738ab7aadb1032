"""Leases: what holds content while nothing names it yet."""

from datetime import timedelta

import pytest

from containerd_py import (
    AlreadyExistsError,
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    Lease,
    NotFoundError,
    deleting,
)


async def test_deleting_takes_a_lease(client: Client):
    """A lease is deleted on the way out of a block like a handle; that it has gone already is fine."""
    async with deleting(await client.leases.create("held", labels={"team": "blue"})) as lease:
        assert [(found.id, found.labels["team"]) for found in await client.leases.list()] == [("held", "blue")]
    assert await client.leases.list() == []
    async with deleting(await client.leases.create("gone")) as lease:
        await lease.delete()
    with pytest.raises(NotFoundError):
        await lease.delete()


async def test_a_lease_of_nobodys_is_not_deleted(client: Client):
    """A lease that was put together here says that there is nothing to delete it from."""
    with pytest.raises(FailedPreconditionError, match="from no daemon"):
        await Lease(id="made-up").delete()


async def test_a_held_lease_has_what_it_was_asked_for(client: Client):
    """hold_lease uses the ID and labels it is given, bounds the lease's life, and deletes it on the way out."""
    async with client.hold_lease(id="mine", expires_in=timedelta(hours=1), labels={"team": "blue"}):
        (lease,) = await client.leases.list()
        assert (lease.id, lease.labels["team"], "containerd.io/gc.expire" in lease.labels) == ("mine", "blue", True)
        with pytest.raises(AlreadyExistsError):
            async with client.hold_lease(id="mine"):
                pass
        assert len(await client.leases.list()) == 1
    assert await client.leases.list() == []


async def test_a_lease_without_a_usable_id_is_none(client: Client):
    """An ID that no call could carry is refused before there is a lease, which the daemon would name by itself."""
    for name in ("", "with\nnewline"):
        with pytest.raises(InvalidArgumentError, match="lease ID"):
            async with client.hold_lease(id=name):
                pass
    assert await client.leases.list() == []


async def test_a_leased_client_lends_itself(client: Client):
    """A lease inside a lease is the same one, unless an ID asks for another."""
    async with client.hold_lease() as leased, leased.hold_lease() as same:
        assert len(await client.leases.list()) == 1
        assert same.services.lease == leased.services.lease
        async with leased.hold_lease(id="another") as other:
            assert other.services.lease == "another"
            assert len(await client.leases.list()) == 2
        assert len(await client.leases.list()) == 1
