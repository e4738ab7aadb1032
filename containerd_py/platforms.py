"""Platforms: how they are written, which of an image's suits a machine, and which suits it best. Asks no daemon.

The rules are those of github.com/containerd/platforms: the image this package picks is the one `ctr` picks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.types import Platform

_THIS_OS: Final = "linux"  # the only system this package runs on

# fmt: off
_KNOWN_OS: Final = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
    "openbsd", "plan9", "solaris", "windows", "zos",
})
_KNOWN_ARCHITECTURES: Final = frozenset({
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64", "mips", "mipsle",
    "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64",
    "wasm",
})
# fmt: on
_ALIASES: Final = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_FIXED_VARIANTS: Final = {"i386": ("386", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6")}
_VARIANTS: Final = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"},
}
_MACHINES: Final = {  # what the kernel calls them, where Go differs
    "x86_64": "amd64",
    "aarch64": "arm64",
    "aarch64_be": "arm64be",
    "loongarch64": "loong64",
}

_PART_RE: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_OS_RE: Final = re.compile(
    r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?", re.ASCII
)  # name(version+feature+feature)
_BAD_ESCAPE_RE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED: Final = str.maketrans({"%": "%25", "+": "%2B", "(": "%28", ")": "%29", "/": "%2F"})

_FEATURE_SPAN: Final = 1000  # ranks leave room for this many features between two platforms

# arm64 versions and what each also runs: (major, highest minor).
_ARM64_RUNS: Final = {
    "v8": ((8, 0),),
    **{f"v8.{minor}": ((8, minor),) for minor in range(10)},
    "v9": ((9, 0), (8, 5)),
    **{f"v9.{minor}": ((9, minor), (8, min(minor + 5, 9))) for minor in range(8)},
}

_LTSC_2022: Final = 20348  # from here on Windows runs containers of the release before
_LTSC_BUILDS: Final = (_LTSC_2022, 26100)


def parse(text: str) -> Platform:
    """Read `os`, `arch`, `os/arch` or `os/arch/variant`; the os may carry `(version+feature)`, the rest is this host's.

    Raises:
        InvalidArgumentError: The text is no platform, or a single word names neither a system nor an architecture.
    """
    name, *others = text.split("/")
    matched = _OS_RE.fullmatch(name)
    if matched is None or len(others) > 2 or not all(_PART_RE.fullmatch(part) for part in others):
        raise InvalidArgumentError(f"{text!r} is no platform: write os/architecture/variant, for instance linux/arm/v7")
    system, version = _normal_os(matched[1]), _unescape(matched[2] or "", text)
    features = tuple(filter(None, (_unescape(part, text) for part in (matched[3] or "").split("+"))))
    if not others:
        return attrs.evolve(_parse_word(name, system), os_version=version, os_features=features)
    architecture, variant = _normal_architecture(others[0], others[1] if len(others) > 1 else "")
    if len(others) == 1 and (architecture, variant) == ("arm", "v7"):
        variant = ""
    if len(others) == 2 and (architecture, variant) == ("arm64", ""):
        variant = "v8"
    return Platform(os=system, architecture=architecture, variant=variant, os_version=version, os_features=features)


def format(platform: Platform) -> str:  # noqa: A001  the contract's name; use it qualified
    """Write a platform so that `parse` reads it back; "unknown" where it has no system."""
    if not platform.os:
        return "unknown"
    features = "".join(f"+{feature.translate(_ESCAPED)}" for feature in sorted(set(platform.os_features)) if feature)
    options = platform.os_version.translate(_ESCAPED) + features
    system = f"{platform.os}({options})" if options else platform.os
    return "/".join(filter(None, (system, platform.architecture, platform.variant)))


def normalize(platform: Platform) -> Platform:
    """Replace other names of a system, architecture or variant by the usual one: `x86_64` is `amd64`."""
    architecture, variant = _normal_architecture(platform.architecture, platform.variant)
    return attrs.evolve(
        platform,
        os=_normal_os(platform.os),
        architecture=architecture,
        variant=variant,
        os_features=tuple(sorted(set(platform.os_features))),
    )


@cache
def default() -> Platform:
    """The platform of this machine, which is not always the daemon's."""
    architecture = _machine_architecture()
    return Platform(os=_THIS_OS, architecture=architecture, variant=_cpu_variant(architecture))


@attrs.frozen
class Matcher:
    """Chooses among an image's platforms. Made by `only`, `only_strict`, `ordered` and `any_of`; `ALL` takes any.

    `platforms` are what is looked for, normalised, best first; None takes any.
    """

    platforms: tuple[Platform, ...] | None
    in_order: bool = True

    def matches(self, platform: Platform | None) -> bool:
        """Tell whether content for that platform is wanted; what does not say its platform always is."""
        return platform is None or self.rank(platform) is not None

    def rank(self, platform: Platform) -> int | None:
        """Say how well a platform suits: lower is better, equal is equally good, None is not at all."""
        if self.platforms is None:
            return 0
        found = normalize(platform)
        for position, wanted in enumerate(self.platforms):
            if _suits(wanted, found):
                # Of two that suit, the one using more of the offered features was built for us.
                spare = _FEATURE_SPAN - min(len(found.os_features), _FEATURE_SPAN)
                return (position if self.in_order else 0) * (_FEATURE_SPAN + 1) + spare
        return None


ALL: Final = Matcher(None)


def only(platform: Platform) -> Matcher:
    """Match a platform and the lesser ones its machines also run: arm/v7 takes arm/v6, amd64 takes 386."""
    return ordered(_also_run(normalize(platform)))


def only_strict(platform: Platform) -> Matcher:
    """Match a platform alone, whichever way it is written."""
    return ordered([platform])


def ordered(platforms: Iterable[Platform]) -> Matcher:
    """Match any of the platforms, the earlier ones preferred."""
    return Matcher(tuple(normalize(platform) for platform in platforms))


def any_of(*platforms: Platform) -> Matcher:
    """Match any of the platforms, none preferred."""
    return Matcher(tuple(normalize(platform) for platform in platforms), in_order=False)


def _parse_word(name: str, system: str) -> Platform:
    if system in _KNOWN_OS:
        here = default()
        variant = here.variant if here.architecture == "arm" and here.variant != "v7" else ""
        return Platform(os=system, architecture=here.architecture, variant=variant)
    architecture, variant = _normal_architecture(name, "")
    if architecture not in _KNOWN_ARCHITECTURES:
        raise InvalidArgumentError(f"{name!r} is neither an operating system nor an architecture containerd knows")
    return Platform(os=_THIS_OS, architecture=architecture, variant="" if variant == "v7" else variant)


def _unescape(text: str, whole: str) -> str:
    try:
        if not _BAD_ESCAPE_RE.search(text):
            return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass
    raise InvalidArgumentError(f"{whole!r} is no platform: {text!r} has a broken %-escape")


def _normal_os(name: str) -> str:
    name = name.lower() or _THIS_OS
    return "darwin" if name == "macos" else name


def _normal_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in _FIXED_VARIANTS:
        return _FIXED_VARIANTS[architecture]
    architecture = _ALIASES.get(architecture, architecture)
    return architecture, _VARIANTS.get(architecture, {}).get(variant, variant)


def _also_run(platform: Platform) -> list[Platform]:
    """List what a machine of that (normal) platform runs, best first."""
    match platform.architecture:
        case "amd64":
            lesser = [attrs.evolve(platform, variant=f"v{level}") for level in _levels_below(platform.variant, 1)]
            return [platform, *lesser, attrs.evolve(platform, architecture="386", variant="")]
        case "arm":
            lesser = [attrs.evolve(platform, variant=f"v{level}") for level in _levels_below(platform.variant, 5)]
            return [platform, *lesser]
        case "arm64":
            return _arm64_also_runs(platform)
        case _:
            return [platform]


def _levels_below(variant: str, lowest: int) -> range:
    number = variant.removeprefix("v")
    level = int(number) if number.isascii() and number.isdecimal() and len(number) < 4 else lowest
    return range(level - 1, lowest - 1, -1)


def _arm64_also_runs(platform: Platform) -> list[Platform]:
    variant = platform.variant or "v8"
    lesser = [
        attrs.evolve(platform, variant=f"v{major}.{minor}" if minor else f"v{major}")
        for major, highest in _ARM64_RUNS.get(variant, ())
        for minor in range(highest, -1, -1)
    ]
    if not lesser:
        return []  # a version nobody knows runs nothing we could name
    return lesser + _also_run(attrs.evolve(platform, architecture="arm", variant="v8"))


def _suits(wanted: Platform, found: Platform) -> bool:
    features = set(found.os_features)
    if wanted.os == "windows":
        features.discard("win32k")  # images name it, hosts of old did not
    return (
        (wanted.os, wanted.architecture, wanted.variant) == (found.os, found.architecture, found.variant)
        and features <= set(wanted.os_features)
        and (wanted.os != "windows" or _windows_runs(wanted.os_version, found.os_version))
    )


def _windows_runs(host: str, container: str) -> bool:
    """Tell whether a Windows of one build runs containers of another: the same, or back to the long-term one before."""
    host_build = _windows_build(host)
    if host_build == (0, 0, 0) or not container:
        return True
    build = _windows_build(container)
    if host_build[:2] != build[:2]:
        return False
    if host_build[2] < _LTSC_2022:
        return host_build == build
    reached = [long_term for long_term in _LTSC_BUILDS if long_term <= host_build[2]]
    return reached[max(len(reached) - 2, 0)] <= build[2] <= host_build[2]


def _windows_build(version: str) -> tuple[int, int, int]:
    parts = version.split(".")[:3]
    if len(parts) < 3 or not all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in parts):
        return 0, 0, 0
    major, minor, build = map(int, parts)
    return (major, minor, build) if major < 256 and minor < 256 and build < 65536 else (0, 0, 0)


def _machine_architecture() -> str:
    machine = os.uname().machine.lower()
    if machine.startswith("armv"):
        return "arm"
    if re.fullmatch(r"i[3-6]86", machine):
        return "386"
    return _MACHINES.get(machine, machine)


def _cpu_variant(architecture: str) -> str:
    """Say which ARM this is, as the kernel tells in /proc/cpuinfo; other architectures have no variant."""
    if architecture not in {"arm", "arm64"}:
        return ""
    facts = _cpu_facts()
    version = facts.get("cpu architecture", "").lower() or _version_from_machine()
    # A Raspberry Pi of the first generation says 7 and is a 6.
    if architecture == "arm" and version == "7" and facts.get("model name", "").lower().startswith("armv6-compatible"):
        version = "6"
    if version == "aarch64":
        return "v8"
    if re.fullmatch(r"\?\(1[2-7]\)", version):
        return "v7"
    known = re.fullmatch(r"([3-8])(?:m|t|te|tej)?", version)
    return f"v{known[1]}" if known else "unknown"


def _cpu_facts() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip().lower(), value.strip())
    return facts


def _version_from_machine() -> str:
    machine = os.uname().machine.lower()
    return "8" if machine.startswith("aarch64") else machine.removeprefix("armv")[:1]
