"""Every example runs as it stands, and leaves nothing but images."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from anyio import to_thread

from containerd_py import Client, Daemon
from containerd_py.testing.registry import LocalRegistry
from tests.docs.pages import ROOT, matches
from tests.harness.network_host import NetworkHost

EXAMPLES = ROOT / "examples"
TIME_LIMIT = 60  # seconds


@attrs.frozen(kw_only=True)
class Example:
    """How an example is called here, and what it prints."""

    prints: str
    arguments: str = "--address ADDRESS --image IMAGE"
    typed: bytes = b""


CALLS: Mapping[str, Example] = {
    "pull_with_progress.py": Example(prints="…/library/alpine:3.20: … bytes packed, … bytes unpacked"),
    "run_and_capture.py": Example(
        prints="Linux …\nwords: 5\nexit code 3, stderr b'something is wrong\\n'\ntook too long, gone: True []"
    ),
    "interactive_cat.py": Example(typed=b"hello\nyou\n", prints="cat: hello\nyou\nexit code 0"),
    "exec_and_stop.py": Example(
        prints="b'ready\\n'\nexec ended with 3: … lines of ps\nb'hello you\\n'\nb'bye\\n' exit code 7 at …Z"
    ),
    "watch_events.py": Example(
        arguments="--address ADDRESS --image IMAGE --demo",
        prints="…demo was created from …\n…demo runs as pid …\n…demo ended with 3\n…demo was deleted",
    ),
    "inspect_kubernetes.py": Example(
        arguments="--address ADDRESS --demo",
        prints="shop/web-0 unknown 10.1.2.3\n    server of docker.io/library/nginx:1.27: unknown, no process, "
        "made anew 2 times\n1 pods, 1 containers",
    ),
    "stats_table.py": Example(
        arguments="--address ADDRESS --image IMAGE --demo --rounds 2 --interval 0.3",
        prints="CONTAINER… PIDS\nbusy … KiB … 1\nidle … KiB … 1\nCONTAINER… PIDS\nbusy … KiB … 1\nidle … KiB … 1",
    ),
    "many_containers.py": Example(
        prints="[1, 4, 9, …, 400]\nsh ended with exit code 1 with 1\nsh ended with exit code 1 with 3"
    ),
    "build_and_commit.py": Example(
        prints="b'hello\\nHELLO\\n'\n2023-11-14T22:13:20…Z directory to /opt/app\n…\n…Z configuration\n"
        "b'greeting\\nloud\\nmore\\n'\nTrue … bytes"
    ),
    "network.py": Example(prints="greeter is 10.4.1.2, reached at 127.0.0.1:…:80/tcp\nhello from greeter\nleft: []"),
    "lease_content.py": Example(
        arguments="--address ADDRESS", prints="read and verified: 2700000 bytes\n…LeaseResource(…\ncollected"
    ),
    "private_daemon.py": Example(
        arguments="--containerd CONTAINERD --image IMAGE",
        prints="containerd 2.1.…\n…Error: …\nback as pid … with running task …\nexit code 5",
    ),
    "services_directly.py": Example(
        prints="containerd …2.1.…\ntransfers by itself: True\n…committed sha256:… on nothing\nsnapshotters: …overlayfs…"
    ),
    "quickstart.py": Example(prints="…exit code 7 at …\nyou said: hello\n…nothing, and the namespace is gone as well"),
}


def test_every_example_is_run():
    """No example is left out."""
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(CALLS)


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("name", CALLS)
async def test_examples_run(
    name: str,
    page_client: Client,
    hub: LocalRegistry,
    daemon: Daemon,
    daemon_bin: Path,
    surroundings: None,
    network_host: NetworkHost,
    monkeypatch: pytest.MonkeyPatch,
):
    """An example ends well and prints what it is meant to."""
    example = CALLS[name]
    meant = {
        "ADDRESS": daemon.address,
        "IMAGE": hub.reference("library/alpine", "3.20"),
        "CONTAINERD": str(daemon_bin / "containerd"),
    }
    monkeypatch.setenv("NETCONFPATH", str(network_host.settings.conf_dir))
    command = ["nsenter", f"--net={network_host.netns}"] if name == "network.py" else []
    command += [sys.executable, "-W", "error", EXAMPLES / name]
    command += [meant.get(word, word) for word in example.arguments.split()]
    done = await to_thread.run_sync(
        lambda: subprocess.run(command, input=example.typed, capture_output=True, timeout=TIME_LIMIT, check=False)
    )
    assert done.returncode == 0, done.stderr.decode()
    assert matches(done.stdout.decode(), example.prints), done.stdout.decode()
