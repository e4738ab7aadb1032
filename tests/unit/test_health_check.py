"""Docker's health checks: read from images nobody vouches for, written for nerdctl."""

import json
from datetime import UTC, datetime

import pytest

from containerd_py import Health, HealthCheck, Probe
from containerd_py._flows.health_labels import health_labels, labelled_health_check
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.health_check import dump_health_check, load_health_check
from containerd_py.oci.image_spec import ImageConfig, parse_config

SECOND = 1_000_000_000


def config(check: object) -> ImageConfig:
    return parse_config(json.dumps({"config": {"Healthcheck": check}}).encode())


def test_of_an_image():
    """Both forms of a command, times in nanoseconds."""
    found = config(
        {"Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 5 * SECOND, "Timeout": SECOND, "Retries": 7}
    )
    assert found.health_check == HealthCheck(command="curl -f localhost", interval=5, bound=1, retries=7)
    found = config({"Test": ["CMD", "/check", "-v"], "StartPeriod": 60 * SECOND, "StartInterval": 2 * SECOND})
    assert found.health_check == HealthCheck(command=["/check", "-v"], start_period=60, start_interval=2)


@pytest.mark.parametrize(
    "check", [{}, {"Test": ["NONE"]}, {"Test": ["CMD"]}, {"Test": [""]}, {"Test": ["CMD-SHELL", ""]}]
)
def test_none(check: object):
    """An image may say that it has none, or nothing that can be run."""
    assert config(check).health_check is None


def test_nonsense_is_the_default():
    """Negative and endless times and counts are not taken over."""
    numbers = {"Interval": -1, "Timeout": 1, "StartPeriod": 2**63 - 1, "StartInterval": 0, "Retries": -5}
    assert config({"Test": ["CMD", "/check"], **numbers}).health_check == HealthCheck(command=["/check"])


@pytest.mark.parametrize("check", [[], "x", {"Test": "x"}, {"Test": [1]}, {"Interval": "30s"}, {"Retries": 1.5}])
def test_what_is_no_check(check: object):
    """A field of the wrong type is refused with its path."""
    with pytest.raises(InvalidArgumentError, match="Healthcheck"):
        config({"Test": ["CMD", "/check"]} | check if isinstance(check, dict) else check)


@pytest.mark.parametrize(
    "options",
    [
        *({"command": ""}, {"command": []}, {"command": ["a\0"]}, {"interval": 0}, {"bound": -1}, {"start_period": -1}),
        *({"retries": 0}, {"interval": float("inf")}, {"start_interval": float("nan")}),
    ],
)
def test_what_cannot_work(options: dict):
    """A check that would never run, or never end, is refused."""
    with pytest.raises(InvalidArgumentError):
        HealthCheck(**{"command": ["/check"], **options})


def test_labels():
    """The label has what nerdctl reads, and is read back; one that is too large is told, or left out for an image's."""
    check = HealthCheck(command="exit 0", interval=0.25, bound=2, start_period=3, start_interval=4, retries=5)
    labels = health_labels(check, ImageConfig())
    assert labelled_health_check(labels) == check
    assert json.loads(labels["nerdctl/healthcheck"]) == {
        "Test": ["CMD", "/bin/sh", "-c", "exit 0"],
        "Interval": SECOND // 4,
        "Timeout": 2 * SECOND,
        "StartPeriod": 3 * SECOND,
        "StartInterval": 4 * SECOND,
        "Retries": 5,
    }
    assert health_labels(None, ImageConfig(health_check=check)) == labels
    assert labelled_health_check({}) is None
    large = HealthCheck(command="x" * 5000)
    with pytest.raises(InvalidArgumentError, match="4096"):
        health_labels(large, ImageConfig())
    assert health_labels(None, ImageConfig(health_check=large)) == {}


@pytest.mark.parametrize("text", ["", "null", "[]", '{"Test": 1}', '{"Test": ["CMD", "a"], "test": []}', "\ud800"])
def test_damaged_labels(text: str):
    """What cannot be read is told."""
    with pytest.raises(InvalidArgumentError):
        load_health_check(text)


def test_written_and_read():
    """What is written is read back."""
    check = HealthCheck(command=["a", "b c"], interval=1.5)
    assert load_health_check(dump_health_check(check)) == check


def test_states():
    """Failures count in a row, and not in the start period, unless it was healthy before."""
    check = HealthCheck(command=["/check"], retries=2)
    now = datetime.now(UTC)
    good, bad = (Probe(started_at=now, ended_at=now, exit_code=code, output=b"") for code in (0, 1))

    def after(*probes: Probe, in_start_period: bool = False) -> Health:
        health = Health()
        for probe in probes:
            health = health.after(probe, check, in_start_period=in_start_period)
        return health

    assert after(bad).status == "starting"
    assert after(bad, bad).status == "unhealthy"
    assert after(bad, good, bad).status == "healthy"
    assert after(bad, bad, bad, in_start_period=True) == Health(probes=(bad, bad, bad))
    assert after(good, bad, bad, in_start_period=True).status == "unhealthy"
    assert after(bad, bad, good) == Health(status="healthy", probes=(bad, bad, good))
    assert len(after(*[bad] * 9).probes) == 5


def test_a_bare_command_is_no_check():
    """A health check is a HealthCheck; a command alone is refused with what to write."""
    with pytest.raises(InvalidArgumentError, match=r"HealthCheck\(command=…\), not 'curl localhost'"):
        health_labels("curl localhost", parse_config(b"{}"))  # type: ignore[arg-type]
