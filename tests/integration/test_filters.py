"""Filters on real daemons: what we let through they read, what we refuse they refuse, and quoting hides nothing."""

from __future__ import annotations

import random

import pytest

from containerd_py import Client, ContainerdError, InvalidArgumentError, check_filter, where
from containerd_py._generated.containerd.services.leases.v1 import LeasesStub, ListRequest

PIECES = (
    *("a", "name", "labels", "_", "0", "ä", "-", ":", "(", "\x01", "\t", "\n", "\x1c", " ", "\xa0", "\u2028", "\ufffd"),
    *(".", ",", "=", "!", "~", "==", "!=", "~=", '"', "/", "|", "'", "\\", '"a"', "/a/", "|a|", "=='b'", "==b"),
    *(r"\n", r"\"", r"\/", r"\|", r"\x4", r"\x41", r"\u12", r"\u1234", r"\UFFFFFFFF", r"\101", r"\777", r"\q", "\0"),
)
VALUES = ("", "plain", 'say "hello"', "back\\slash", "a,b==c", "line\nline", "\0\ufffd", "ä\x1c😀", "/a|b/", " ", "'")


def texts(seed: int, count: int) -> list[str]:
    """Make up filters, many of them right."""
    chosen = random.Random(seed)
    made = []
    for _ in range(count):
        start = chosen.choice(["", "name", "labels.a", '"a b"', "a==b,c"]) + chosen.choice(
            ["", "==", "!=", "~=", " == "]
        )
        made.append(start + "".join(chosen.choices(PIECES, k=chosen.randint(0, 4))))
    return made


async def is_read(client: Client, text: str) -> bool:
    """Ask the daemon, past our own check."""
    try:
        await client.services.stub(LeasesStub).list(ListRequest(filters=[text]))
    except ContainerdError as error:
        assert "filters:" in str(error), text
        return False
    return True


def is_let_through(text: str) -> bool:
    try:
        check_filter(text)
    except InvalidArgumentError:
        return False
    return True


async def test_we_refuse_what_the_daemon_refuses(client: Client) -> None:
    """Of many texts made of the language's pieces, exactly those that a daemon reads are let through."""
    tried = dict.fromkeys(texts(20_26, 1_500))
    let_through = {text for text in tried if is_let_through(text)}
    assert len(let_through) > 100
    assert {text for text in tried if await is_read(client, text)} == let_through


async def test_quoting_hides_nothing(client: Client) -> None:
    """Every value is found by its own filter alone, whatever is in it; also where the key needs quotes."""
    key = 'a key/with."quotes"'
    for number, value in enumerate(VALUES):
        await client.leases.create(str(number), labels={key: value} if value else {"other": "x"})
    for number, value in enumerate(VALUES):
        found = await client.leases.list([where("labels", key).equals(value)])
        assert [lease.id for lease in found] == ([str(number)] if value else [])
    has_key = await client.leases.list([where("labels", key).exists() & where("id").differs("1")])
    assert sorted(int(lease.id) for lease in has_key) == list(range(2, len(VALUES)))
    either = await client.leases.list([where("id").equals("0"), where("labels", key).matches(r"^back\\slash$")])
    assert [lease.id for lease in either] == ["0", "3"]
    for number in range(len(VALUES)):
        await client.leases.delete(str(number))


@pytest.mark.lines("2.1")
async def test_every_call_with_filters_checks_them(client: Client) -> None:
    """Where the daemon would answer with an unknown error, or not at all, the fault is told all the same."""
    calls = [
        client.containers.list,
        client.content.list,
        client.content.list_statuses,
        client.images.list,
        client.introspection.plugins,
        client.leases.list,
        client.sandboxes.store.list,
        client.snapshotter("overlayfs").list,
        client.tasks.metrics,
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="→"):
            await call(["name=="])
