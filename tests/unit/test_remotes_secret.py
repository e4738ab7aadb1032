"""Secrets never show: not printed, formatted, copied, pickled, nor sent back in a server's words."""

from __future__ import annotations

import copy
import json
import pickle

import attrs
import pytest

from containerd_py.remotes.auth import basic_header, form_of
from containerd_py.remotes.credentials import Credential
from containerd_py.remotes.registry import Registry
from containerd_py.remotes.secret import HIDDEN, Secret, scrub

CANARY = "c4n4ry-p4ssw0rd"


def test_no_way_of_printing_shows_it() -> None:
    """str, repr, format and %-formatting show the same dots."""
    secret = Secret(CANARY)
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>40}",
        f"{secret!r}",
        " ".join([str(secret)]),
        f"{[secret]}",
    ]
    assert all(CANARY not in text and HIDDEN in text for text in shown)
    assert secret.reveal() == CANARY


def test_values_that_hold_one_do_not_show_it() -> None:
    """Neither a credential nor a registry's configuration shows what it holds, as text or as a dictionary."""
    credential = Credential(username="me", secret=CANARY)
    registry = Registry(credentials={"host.example": ("me", CANARY)})
    for holder in (credential, registry):
        assert CANARY not in repr(holder)
        assert CANARY not in repr(attrs.asdict(holder))


def test_copies_and_serialisation() -> None:
    """A copy is the same object; pickling and JSON refuse."""
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_equality_and_truth() -> None:
    """Secrets compare by what they hold and are never equal to the bare text; an empty one is false."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


def test_scrub_hides_what_a_server_sends_back() -> None:
    """A server's words lose the secret, with and without the scheme before it."""
    header = Secret("Bearer abc.def")
    assert scrub("you sent abc.def, I mean Bearer abc.def", header, None) == f"you sent {HIDDEN}, I mean {HIDDEN}"


def test_forms_and_headers_are_secrets() -> None:
    """What is made of a credential to be sent is a secret too."""
    credential = Credential(username="me", secret=CANARY)
    assert CANARY not in repr(form_of("service", ("scope",), credential))
    assert "c4n4ry" not in repr(basic_header(credential))
