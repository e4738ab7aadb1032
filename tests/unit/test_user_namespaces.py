"""Ranges of IDs as snapshotters hand them out."""

from __future__ import annotations

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.user_namespaces import as_label, from_label


def test_ranges_are_written_and_read_back():
    """What is read is what was written."""
    label = "0:100000:65536,65536:4294967294:1"
    assert as_label(from_label(label)) == label


@pytest.mark.parametrize(
    "label", ["", "0:1", "0:1:2:3", "0:-1:2", "0:+1:2", "0:1_0:2", "0:\u0661:2", f"0:{'1' * 5000}:2"]
)
def test_what_is_no_range_is_refused(label: str):
    """Numbers are a few digits, whatever else Python would take for one, or not take in time."""
    with pytest.raises(InvalidArgumentError, match="no range of IDs"):
        from_label(label)
