"""Docker's configuration and the credential helpers it names."""

from __future__ import annotations

import base64
import json
import logging
import os
import stat
from pathlib import Path

import anyio
import pytest

from containerd_py.errors import InvalidArgumentError, RegistryAuthenticationError
from containerd_py.remotes import credential_helper
from containerd_py.remotes.credentials import Credential
from containerd_py.remotes.docker_config import MAX_CONFIG_SIZE, DockerConfig, default_path

ME = Credential(username="me", secret="pw")


def auth(pair: str = "me:pw") -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def write(folder: Path, content: object) -> DockerConfig:
    """Write a config.json only we can read."""
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return DockerConfig(path, helper_environment={"PATH": str(folder / "bin")})


def helper(folder: Path, name: str, script: str) -> Path:
    """Write a credential helper into a folder of its own."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)
    return program


# ── the file itself ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "registry", "found"),
    [
        ("reg.example", "reg.example", True),
        ("https://reg.example", "reg.example", True),
        ("https://reg.example/v1/", "reg.example", True),
        ("http://reg.example:5000/v2", "reg.example:5000", True),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("registry-1.docker.io", "docker.io", True),
        ("reg.example/team", "reg.example", False),
        ("reg.example.evil.com", "reg.example", False),
        ("sub.reg.example", "reg.example", False),
        ("reg.example", "reg.example:5000", False),
    ],
)
async def test_keys(tmp_path: Path, key: str, registry: str, found: bool) -> None:
    """A key means one host, with or without scheme and API version; a longer path means something narrower."""
    config = write(tmp_path, {"auths": {key: auth()}})
    assert await config(registry) == (ME if found else None)


async def test_exact_key_first(tmp_path: Path) -> None:
    """Of two keys for one host the exact one counts."""
    config = write(tmp_path, {"auths": {"https://reg.example/v1/": auth("old:x"), "reg.example": auth()}})
    assert await config("reg.example") == ME


async def test_kinds_of_entries(tmp_path: Path) -> None:
    """An identity token comes before a password; user and password may stand in the clear; empty entries are none."""
    config = write(
        tmp_path,
        {
            "auths": {
                "token.example": {**auth(), "identitytoken": "tok"},
                "plain.example": {"username": "me", "password": "pw"},
                "colon.example": auth("me:p:w"),
                "empty.example": {},
                "odd.example": 5,
            }
        },
    )
    assert await config("token.example") == Credential(secret="tok")
    assert await config("plain.example") == ME
    assert await config("colon.example") == Credential(username="me", secret="p:w")
    assert await config("empty.example") is None
    assert await config("odd.example") is None


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{", '{"auths":{},"auths":{}}', '{"auths":{"reg.example":{},"reg.example":{}}}', "\ufeff{}",
        '{"auths":{"reg.example":{"auth":"!!"}}}', '{"auths":{"reg.example":{"auth":"bWU="}}}', '{"credsStore":5}',
        '{"credHelpers":{"reg.example":5}}', "[" * 10_000, "{" + " " * MAX_CONFIG_SIZE + "}",
    ],
)  # fmt: skip
async def test_malformed(tmp_path: Path, content: str) -> None:
    """A file that is no strict JSON, is too large, or has impossible entries is an error."""
    with pytest.raises(InvalidArgumentError):
        await write(tmp_path, content)("reg.example")


async def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual file may be missing; one that was named may not."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert await DockerConfig()("reg.example") is None
    with pytest.raises(InvalidArgumentError):
        await DockerConfig(tmp_path / "config.json")("reg.example")


async def test_readable_by_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file with passwords that others can read is warned of."""
    config = write(tmp_path, {"auths": {"reg.example": auth()}})
    (tmp_path / "config.json").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert await config("reg.example") == ME
    assert "chmod 600" in caplog.text
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o644


def test_default_path() -> None:
    """DOCKER_CONFIG names the folder, else it is in the home."""
    assert default_path({"DOCKER_CONFIG": "/x", "HOME": "/h"}) == Path("/x/config.json")
    assert default_path({"HOME": "/h"}) == Path("/h/.docker/config.json")


# ── helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = """cat >"$HOME/asked"; env >"$HOME/env"; echo '{"ServerURL":"x","Username":"me","Secret":"pw"}'"""


async def test_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper is told the server on its input, and sees nothing of our environment that it does not need."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    helper(tmp_path, "own", ANSWER)
    config = write(tmp_path, {"credHelpers": {"reg.example": "own"}, "auths": {"reg.example": auth("other:x")}})
    assert await config("reg.example") == ME
    assert (tmp_path / "asked").read_text() == "reg.example"
    assert "canary" not in (tmp_path / "env").read_text()


async def test_helper_gets_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What helper_environment adds reaches the helper: the names of the common ones count."""
    monkeypatch.setenv("HOME", str(tmp_path))
    helper(tmp_path, "own", ANSWER)
    write(tmp_path, {"credsStore": "own"})
    config = DockerConfig(
        tmp_path / "config.json", helper_environment={"PATH": str(tmp_path / "bin"), "AWS_PROFILE": "work"}
    )
    assert await config("reg.example") == ME
    assert "AWS_PROFILE=work" in (tmp_path / "env").read_text()


async def test_docker_hub_s_name_for_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers know Docker Hub by the URL that docker login uses."""
    monkeypatch.setenv("HOME", str(tmp_path))
    helper(tmp_path, "own", ANSWER)
    assert await write(tmp_path, {"credsStore": "own"})("docker.io") == ME
    assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/"


async def test_helper_s_identity_token(tmp_path: Path) -> None:
    """The user name <token> marks an identity token."""
    helper(tmp_path, "own", """echo '{"Username":"<token>","Secret":"tok"}'""")
    assert await write(tmp_path, {"credsStore": "own"})("reg.example") == Credential(secret="tok")


async def test_helper_without_credentials(tmp_path: Path) -> None:
    """A helper that has none leaves the word to the file."""
    helper(tmp_path, "own", "echo 'credentials not found in native keychain'; exit 1")
    assert await write(tmp_path, {"credsStore": "own"})("reg.example") is None
    assert await write(tmp_path, {"credsStore": "own", "auths": {"reg.example": auth()}})("reg.example") == ME


@pytest.mark.parametrize(
    "script",
    [
        "exit 1", "echo canary; exit 3", "echo canary", "echo '{\"Username\":5,\"Secret\":\"canary\"}'",
        "echo '{\"Secret\":\"canary\"}'", "kill -9 $$", "head -c 70000 /dev/zero", "printf '\\377canary'",
    ],
)  # fmt: skip
async def test_failing_helper(tmp_path: Path, script: str) -> None:
    """A helper that fails, or answers something else, is a typed error that shows none of its words."""
    helper(tmp_path, "own", script)
    with pytest.raises(RegistryAuthenticationError) as caught:
        await write(tmp_path, {"credsStore": "own"})("reg.example")
    assert "docker-credential-own" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "../../x", "a b", "A", "x;id", "x\n", ".hidden", "-" * 5 + "/x"])
async def test_names_of_helpers(tmp_path: Path, name: str) -> None:
    """A helper's name cannot lead out of PATH."""
    config = write(tmp_path, {"credHelpers": {"reg.example": name}})
    if not name:
        assert await config("reg.example") is None
        return
    with pytest.raises(InvalidArgumentError):
        await config("reg.example")


async def test_missing_helper(tmp_path: Path) -> None:
    """A helper that is not installed is an error saying so."""
    with pytest.raises(InvalidArgumentError, match="docker-credential-missing"):
        await write(tmp_path, {"credsStore": "missing"})("reg.example")


@pytest.mark.parametrize("mode", [0o777, 0o1777])
async def test_folders_anybody_can_write_to(tmp_path: Path, mode: int) -> None:
    """A helper in a folder that everybody may put one into is not run."""
    helper(tmp_path, "own", ANSWER)
    (tmp_path / "bin").chmod(mode)
    with pytest.raises(InvalidArgumentError):
        await write(tmp_path, {"credsStore": "own"})("reg.example")


async def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper in the current folder is not run because PATH has a relative entry."""
    helper(tmp_path, "own", ANSWER)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"credsStore": "own"})
    for path in ("bin", "", "."):
        with pytest.raises(InvalidArgumentError):
            await DockerConfig(tmp_path / "config.json", helper_environment={"PATH": path})("reg.example")


async def test_hanging_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that hangs is killed with all it started, and reaped."""
    monkeypatch.setattr(credential_helper, "TIMEOUT", 0.3)
    helper(tmp_path, "own", f'sleep 60 & echo $! >"{tmp_path}/child"; wait')
    with pytest.raises(RegistryAuthenticationError, match="did not answer"):
        await write(tmp_path, {"credsStore": "own"})("reg.example")
    await _gone(int((tmp_path / "child").read_text()))


async def test_cancelled_helper(tmp_path: Path) -> None:
    """A helper whose caller is cancelled is killed with all it started."""
    helper(tmp_path, "own", f'sleep 60 & echo $! >"{tmp_path}/child"; wait')
    config = write(tmp_path, {"credsStore": "own"})
    with anyio.fail_after(30), anyio.move_on_after(0.5) as scope:
        await config("reg.example")
    assert scope.cancelled_caught
    await _gone(int((tmp_path / "child").read_text()))


async def test_grandchild_that_keeps_the_output_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that ended, but whose child keeps its output open, is not waited for longer than the bound."""
    monkeypatch.setattr(credential_helper, "TIMEOUT", 0.3)
    helper(tmp_path, "own", f'sleep 60 & echo $! >"{tmp_path}/child"')
    with pytest.raises(RegistryAuthenticationError):
        await write(tmp_path, {"credsStore": "own"})("reg.example")
    await _gone(int((tmp_path / "child").read_text()))


async def _gone(pid: int) -> None:
    """Wait until a process is gone, or a zombie of whoever adopted it."""
    with anyio.fail_after(5):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                return
            if state == "Z":
                return
            await anyio.sleep(0.01)


def test_no_children_left() -> None:
    """After all of this no helper is left unreaped."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            assert not (int(fields[1]) == os.getpid() and fields[0] == "Z"), f"zombie {entry.name}"
