"""Whoever knows the Go client finds what they look for: each of its options has an answer here, and a true one."""

from __future__ import annotations

import pytest

from containerd_py.oci import spec_options
from tests.docs.go_names import PAGE, TABLES, problem, render, rows

NAMES = [(go, here) for table in TABLES.values() for go, here in rows(table).items()]
# Counted in containerd v2.1.9: each table holds all there are there (and two options of package oci of v2.3).
COUNTS = (91, 18, 37, 22, 37, 31)


@pytest.mark.parametrize(("go", "here"), NAMES, ids=[go for go, _ in NAMES])
def test_an_option_is_what_the_table_says(go: str, here: str):
    """The names that a Go option stands for exist, with the argument named; where there are none, a reason stands."""
    if here.startswith("- "):
        assert len(here) > 10
    else:
        assert [found for name in here.split(", ") if (found := problem(name))] == []


def test_no_option_is_lost():
    """The tables are as long as they were when they were compared with the Go client, and name nothing twice."""
    assert tuple(len(rows(table)) for table in TABLES.values()) == COUNTS
    assert [table.count("\n") - 1 for table in TABLES.values()] == [*COUNTS]


def test_what_is_missing_is_noticed():
    """A name, an attribute and an argument that are not there are each told apart from one that is."""
    assert problem("with_env") == problem("Client.create_container(runtime)") == ""
    for name in (
        "with_nothing",
        "Client.nothing",
        "Client.pull(nothing)",
        "oci.host.nothing",
        "oci.nothing.at",
        "no name",
    ):
        assert problem(name), name


def test_no_spec_option_is_unknown_to_the_table():
    """Every spec option here is some Go option's, or is known to be one that the Go client has not."""
    ours_alone = """
        with_cgroup_mount with_default_seccomp with_device_rules with_hooks with_hugepage_limit with_init
        with_memory_reservation with_oom_score_adj with_seccomp with_spec with_sysctl with_tmpfs
        with_unified SpecOption"""
    named = {name for _, here in NAMES for name in here.split(", ")}
    assert {name for name in spec_options.__all__ if name not in named} <= set(ours_alone.split())


def test_the_page_is_current():
    """docs/reference/go-client.md says what the table says: write it with python -m tests.docs.go_names."""
    assert PAGE.read_text() == render()
