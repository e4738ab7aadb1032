"""Rules of the firewall that plugins have left, found among anybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from containerd_py.cni import rules
from containerd_py.errors import CNIError

MARK = 'name: "net" id: "default-c1"'


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rules, "_FOLDERS", str(tmp_path))
    monkeypatch.setattr(rules, "TOOLS", ("iptables",))
    (tmp_path / "rules").write_bytes(b"")
    program = tmp_path / "iptables"
    program.write_text(
        f'#!/bin/sh\nfor word; do printf "%s|" "$word"; done >>"{tmp_path}/calls"; echo >>"{tmp_path}/calls"\n'
        f'[ "$4" = -S ] && cat "{tmp_path}/rules"\nexit 0\n'
    )
    program.chmod(0o755)
    return tmp_path


def test_a_containers_rules_are_removed_among_any_others(tool: Path):
    """Rules whose comments are no text, or have a quote or a form feed in them, are passed over, not stumbled over."""
    ours = r'-A POSTROUTING -m comment --comment "name: \"net\" id: \"default-c1\"" -j CNI-abc'
    others = [
        b"-A INPUT -m comment --comment it's",
        b"-A INPUT -m comment --comment \xff",
        b"-A a\x0c-A b",
        b"-P INPUT",
    ]
    (tool / "rules").write_bytes(b"\n".join([*others, ours.encode(), b""]))
    rules.remove_container_rules("net", "default-c1")
    assert (tool / "calls").read_text().splitlines() == [
        "-w|-t|nat|-S|",
        f"-w|-t|nat|-D|POSTROUTING|-m|comment|--comment|{MARK}|-j|CNI-abc|",
        "-w|-t|nat|-F|CNI-abc|",
        "-w|-t|nat|-X|CNI-abc|",
    ]


def test_a_tool_that_does_not_end_is_a_typed_error(tool: Path, monkeypatch: pytest.MonkeyPatch):
    """Who waits for the lock of the rules for too long is killed, and the error says what to look for."""
    monkeypatch.setattr(rules, "_BOUND", 0.2)
    (tool / "iptables").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(CNIError, match="does another program hold its lock"):
        rules.remove_bridge_rules("br-1")
