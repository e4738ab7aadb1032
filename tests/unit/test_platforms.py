"""Platforms: written, normalised, matched and ranked as github.com/containerd/platforms does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py import platforms
from containerd_py.errors import InvalidArgumentError
from containerd_py.types import Platform


def made(text: str) -> Platform:
    """Make a platform from os/arch/variant without any rule applied."""
    system, architecture, variant = (*text.split("/"), "", "")[:3]
    return Platform(os=system, architecture=architecture, variant=variant)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/X86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm64", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/arm64/8", "linux/arm64/v8"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm64/9.0", "linux/arm64/v9"),
        ("macOS/arm64", "darwin/arm64"),
        ("made_up/any.thing/v-1", "made_up/any.thing/v-1"),
        ("arm64", "linux/arm64"),
        ("armhf", "linux/arm"),
        ("armel", "linux/arm/v6"),
        ("s390x", "linux/s390x"),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ("windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64"),
        ("linux(+gpu+fast)/amd64", "linux(+fast+gpu)/amd64"),
        ("linux(a%2Fb+c%2Bd)/amd64", "linux(a%2Fb+c%2Bd)/amd64"),
    ],
)
def test_parse_and_format(text: str, expected: str) -> None:
    """A platform is read with its aliases replaced, and written so that reading it again changes nothing."""
    platform = platforms.parse(text)
    assert platforms.format(platform) == expected
    assert platforms.format(platforms.parse(expected)) == expected


@pytest.mark.parametrize("system", ["linux", "windows", "freebsd"])
def test_system_alone_takes_this_architecture(system: str) -> None:
    """A system alone is completed with this machine's architecture."""
    assert platforms.parse(system) == Platform(os=system, architecture=platforms.default().architecture)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "linux/", "/amd64", "linux//v7", "linux/amd64/v1/x", "*", "linux/*", "nonsense", "linux/amd64\n",
        "linux\n", "linux/ámd64", "linux(", "linux(1.0/amd64", "linux()x/amd64", "linux(1+)/amd64", "linux(%zz)/amd64",
        "linux(%ff)/amd64", "linux/amd64(1.0)", "linux /amd64", "arm(1)",
    ],
)  # fmt: skip
def test_parse_refuses(text: str) -> None:
    """What is no platform is refused with an error that shows it."""
    with pytest.raises(InvalidArgumentError):
        platforms.parse(text)


def test_format_without_system() -> None:
    """A platform without a system is "unknown", as ctr prints it."""
    assert platforms.format(Platform(os="", architecture="amd64")) == "unknown"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/amd64", "linux/amd64"),
        ("LINUX/AMD64/V2", "linux/amd64/v2"),
        ("linux/i386/v9", "linux/386"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf/v5", "linux/arm/v7"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
    ],
)
def test_normalize(text: str, expected: str) -> None:
    """Normalising gives one name to what has several; arm without a variant is v7, arm64's v8 goes without saying."""
    assert platforms.normalize(made(text)) == made(expected)


def test_normalize_features() -> None:
    """Features are sorted and said once."""
    platform = Platform(os="linux", architecture="amd64", os_features=("b", "a", "b"))
    assert platforms.normalize(platform).os_features == ("a", "b")


ONLY = {
    "linux/amd64": ["linux/amd64", "linux/386"],
    "linux/amd64/v3": ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"],
    "linux/386": ["linux/386"],
    "linux/arm/v8": ["linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
    "linux/arm": ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
    "linux/arm/v6": ["linux/arm/v6", "linux/arm/v5"],
    "linux/arm/v5": ["linux/arm/v5"],
    "linux/arm/v4": ["linux/arm/v4"],
    "linux/arm64": ["linux/arm64/v8", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
    "linux/arm64/v8.2": ["linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64", "linux/arm/v8", "linux/arm/v7"],
    "linux/arm64/v9": ["linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64/v8.1", "linux/arm64/v8", "linux/arm/v8"],
    "linux/arm64/v9.1": ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64", "linux/arm/v7"],
    "linux/ppc64le": ["linux/ppc64le"],
}


@pytest.mark.parametrize("wanted", ONLY)
def test_only_ranks_what_a_machine_runs(wanted: str) -> None:
    """A machine takes its own platform first, then the lesser ones it also runs, in falling order."""
    matcher = platforms.only(made(wanted))
    ranks = [matcher.rank(made(text)) for text in ONLY[wanted]]
    assert None not in ranks
    assert ranks == sorted(set(ranks), key=lambda rank: rank or 0)


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        ("linux/amd64", "linux/arm64"),
        ("linux/amd64", "windows/amd64"),
        ("linux/amd64", "linux/amd64/v2"),
        ("linux/amd64/v2", "linux/amd64/v3"),
        ("linux/386", "linux/amd64"),
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm64"),
        ("linux/arm64", "linux/arm64/v8.1"),
        ("linux/arm64", "linux/arm64/v9"),
        ("linux/arm64/v8.9", "linux/arm64/v9"),
        ("linux/arm64/v9.7", "linux/arm64/v9.8"),
        ("linux/arm64/unheard", "linux/arm64/unheard"),
        ("linux/arm64/unheard", "linux/arm64"),
    ],
)
def test_only_refuses(wanted: str, other: str) -> None:
    """A machine takes nothing newer than itself, and one of an unknown ARM version takes nothing at all."""
    matcher = platforms.only(made(wanted))
    assert matcher.rank(made(other)) is None
    assert not matcher.matches(made(other))


def test_only_strict() -> None:
    """The strict matcher takes no lesser platform, but every spelling of its own."""
    matcher = platforms.only_strict(made("linux/arm64"))
    assert matcher.matches(made("linux/aarch64/v8"))
    assert not matcher.matches(made("linux/arm/v7"))
    assert not platforms.only_strict(made("linux/amd64")).matches(made("linux/386"))


def test_ordered_prefers_the_first() -> None:
    """Platforms given in order are preferred in that order, whatever the machine."""
    matcher = platforms.ordered([made("linux/s390x"), made("linux/amd64")])
    first, second = matcher.rank(made("linux/s390x")), matcher.rank(made("linux/amd64"))
    assert first is not None
    assert second is not None
    assert first < second


def test_any_of_prefers_none() -> None:
    """Platforms given to any_of rank alike; with none given nothing matches."""
    matcher = platforms.any_of(made("linux/s390x"), made("linux/amd64"))
    assert matcher.rank(made("linux/s390x")) == matcher.rank(made("linux/amd64")) is not None
    assert matcher.rank(made("linux/386")) is None
    assert platforms.any_of().rank(made("linux/amd64")) is None


def test_content_without_platform_always_passes() -> None:
    """A descriptor that does not say its platform passes every matcher."""
    for matcher in (platforms.ALL, platforms.any_of(), platforms.only(made("linux/amd64"))):
        assert matcher.matches(None)


def test_all_takes_everything() -> None:
    """ALL ranks every platform alike."""
    assert platforms.ALL.rank(made("plan9/mips")) == platforms.ALL.rank(made("linux/amd64")) == 0


def test_features_must_be_offered_and_more_are_better() -> None:
    """An image may need only features that were asked for; of two that suit, the one using more comes first."""
    matcher = platforms.only(Platform(os="linux", architecture="amd64", os_features=("a", "b")))

    def rank(*features: str) -> int | None:
        return matcher.rank(Platform(os="linux", architecture="amd64", os_features=features))

    none, one, both = rank(), rank("b"), rank("b", "a")
    assert none is not None
    assert one is not None
    assert both is not None
    assert both < one < none
    assert rank("c") is None
    assert rank("a", "c") is None
    lesser = matcher.rank(Platform(os="linux", architecture="386", os_features=("a", "b")))
    assert lesser is not None
    assert none < lesser


@pytest.mark.parametrize(
    ("host", "container", "runs"),
    [
        ("10.0.17763", "10.0.17763.1", True),
        ("10.0.17763", "10.0.17764", False),
        ("10.0.17763", "10.0.20348", False),
        ("10.0.20348", "10.0.20348", True),
        ("10.0.20348", "10.0.17763", False),
        ("10.0.22621", "10.0.20348", True),
        ("10.0.22621", "10.0.22622", False),
        ("10.0.26100", "10.0.20348", True),
        ("10.0.26200", "10.0.20348", True),
        ("10.0.26200", "10.0.20347", False),
        ("10.0.26200", "10.0.26200", True),
        ("10.1.26200", "10.0.26200", False),
        ("", "10.0.17763", True),
        ("10.0", "10.0.17763", True),
        ("10.0.17763", "", True),
        ("10.0.17763", "nonsense", False),
    ],
)
def test_windows_versions(host: str, container: str, runs: bool) -> None:
    """Windows before 2022 runs its own build only; later ones reach back to the long-term release before theirs."""
    matcher = platforms.only(Platform(os="windows", architecture="amd64", os_version=host))
    assert matcher.matches(Platform(os="windows", architecture="amd64", os_version=container)) is runs


def test_win32k_is_always_there() -> None:
    """The win32k feature of Windows images needs not be asked for."""
    matcher = platforms.only(Platform(os="windows", architecture="amd64"))
    assert matcher.matches(Platform(os="windows", architecture="amd64", os_features=("win32k",)))


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "expected"),
    [
        ("x86_64", "", "linux/amd64"),
        ("aarch64", "processor : 0\nCPU architecture: 8\n", "linux/arm64/v8"),
        ("aarch64", "", "linux/arm64/v8"),
        ("armv7l", "CPU architecture: 7\nmodel name : ARMv7 Processor\n", "linux/arm/v7"),
        ("armv6l", "model name : ARMv6-compatible processor\nCPU architecture: 7\n", "linux/arm/v6"),
        ("armv5tel", "CPU architecture: 5TEJ\n", "linux/arm/v5"),
        ("armv7l", "CPU architecture: ?(14)\n", "linux/arm/v7"),
        ("armv8l", "", "linux/arm/v8"),
        ("armv9z", "CPU architecture: 9000\n", "linux/arm/unknown"),
        ("i686", "", "linux/386"),
        ("riscv64", "", "linux/riscv64"),
        ("loongarch64", "", "linux/loong64"),
    ],
)
def test_default(monkeypatch: pytest.MonkeyPatch, machine: str, cpuinfo: str, expected: str) -> None:
    """This machine's platform is told by the kernel's name for it and, on ARM, by /proc/cpuinfo."""

    class Uname:
        pass

    uname = Uname()
    uname.machine = machine  # type: ignore[attr-defined]
    monkeypatch.setattr(platforms.os, "uname", lambda: uname)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: cpuinfo)
    platforms.default.cache_clear()
    try:
        assert platforms.format(platforms.default()) == expected
    finally:
        monkeypatch.undo()
        platforms.default.cache_clear()


_word = st.text(alphabet="abv789._-X", min_size=1, max_size=6)
_option = st.text(alphabet="a1.%+()/é ", max_size=5)


@given(_word, _word, _word, _option, st.lists(_option.filter(bool), max_size=3))
def test_format_reads_back(system: str, architecture: str, variant: str, version: str, features: list[str]) -> None:
    """Whatever can be written in the grammar reads back as the same normal platform."""
    platform = Platform(
        os=system.replace(".", "_"), architecture=architecture, variant=variant, os_version=version,
        os_features=tuple(features),
    )  # fmt: skip
    text = platforms.format(platform)
    try:
        again = platforms.parse(text)
    except InvalidArgumentError:
        assert any(character in version + "".join(features) for character in "é ")
        return
    assert platforms.normalize(again) == platforms.normalize(platform)


@given(st.sampled_from(sorted(ONLY)), st.sampled_from(sorted(set(itertools.chain(*ONLY.values())))))
def test_rank_and_matches_agree(wanted: str, other: str) -> None:
    """A platform matches exactly when it has a rank."""
    matcher = platforms.only(made(wanted))
    assert matcher.matches(made(other)) is (matcher.rank(made(other)) is not None)
