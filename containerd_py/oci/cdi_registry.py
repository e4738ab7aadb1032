"""The devices that a host's directories of CDI specifications offer. Reading blocks; looking up is pure."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from containerd_py.errors import ContainerdError, InvalidArgumentError, MissingExtraError, NotFoundError
from containerd_py.oci.cdi_spec import CDIDevice, CDISpec, Edits, check_device_name, read_cdi_spec
from containerd_py.oci.strict_json import load_object
from containerd_py.types import FrozenMap

CDI_DIRECTORIES: Final = ("/etc/cdi", "/var/run/cdi")  # for what stays and for what is generated; the latter wins
_MAX_SPEC_SIZE: Final = 4 * 2**20  # bytes
_MAPS: Final = frozenset({"annotations"})


@attrs.frozen(kw_only=True)
class CDISource:
    """A device, the specification it is in, and where that is; of two of one name the higher `priority` counts."""

    device: CDIDevice
    spec: CDISpec
    path: str
    priority: int


@attrs.frozen(kw_only=True)
class CDIRegistry:
    """What the directories offer: devices by qualified name.

    `conflicts` are names that several specifications of one directory give, so that none counts; `problems` say which
    files could not be read and why.
    """

    devices: Mapping[str, CDISource]
    conflicts: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]

    def edits(self, names: Iterable[str]) -> Edits:
        """Return what a container gets for these devices: what each specification wants once, and each device's.

        Raises:
            InvalidArgumentError: A name is no qualified device name, or the name is in conflict.
            NotFoundError: There is no such device; the message says what there is.
        """
        made = Edits()
        used: list[CDISpec] = []
        for name in names:
            source = self._find(name)
            if not any(source.spec is spec for spec in used):
                used.append(source.spec)
                made += source.spec.edits
            made += source.device.edits
        return made

    def _find(self, name: str) -> CDISource:
        check_device_name(name)
        if name in self.conflicts:
            raise InvalidArgumentError(f"the CDI device {name} is in {' and in '.join(self.conflicts[name])}: keep one")
        if name not in self.devices:
            known = ", ".join(sorted(self.devices)[:20]) or "none"
            problems = "".join(f"; {problem}" for problem in self.problems)
            raise NotFoundError(f"there is no CDI device {name}; there are: {known}{problems}")
        return self.devices[name]


def read_cdi_registry(directories: Sequence[str | os.PathLike[str]] = CDI_DIRECTORIES) -> CDIRegistry:
    """Read all specifications, *.json and *.yaml, of directories in rising priority. Blocks.

    A directory that is not there is empty; a file that cannot be read is one of the `problems`.
    """
    found: dict[str, list[CDISource]] = {}
    problems: list[str] = []
    for priority, directory in enumerate(directories):
        for path in _spec_files(Path(directory), problems):
            try:
                spec = read_cdi_file(path)
            except (ContainerdError, OSError) as error:
                problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                continue
            for device in spec.devices:
                source = CDISource(device=device, spec=spec, path=str(path), priority=priority)
                found.setdefault(f"{spec.kind}={device.name}", []).append(source)
    devices, conflicts = {}, {}
    for name, sources in found.items():
        highest = max(source.priority for source in sources)
        best = [source for source in sources if source.priority == highest]
        if len(best) == 1:
            devices[name] = best[0]
        else:
            conflicts[name] = tuple(source.path for source in best)
    return CDIRegistry(devices=FrozenMap(devices), conflicts=FrozenMap(conflicts), problems=tuple(problems))


def read_cdi_file(path: Path) -> CDISpec:
    """Read one specification. Blocks.

    Raises:
        InvalidArgumentError: It is no regular file, larger than 4 MiB, or no valid specification.
        MissingExtraError: It is YAML, and PyYAML is not installed.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold us up
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidArgumentError(f"{path}: no regular file")
        data = file.read(_MAX_SPEC_SIZE + 1)
    if len(data) > _MAX_SPEC_SIZE:
        raise InvalidArgumentError(f"{path}: more than {_MAX_SPEC_SIZE} bytes")
    what = str(path)
    if path.suffix == ".json":
        document = load_object(data, what=what, max_size=_MAX_SPEC_SIZE, maps=_MAPS)
    else:
        document = _yaml_object(data, what=what)
    return read_cdi_spec(document, what=what)


def _yaml_object(data: bytes, *, what: str) -> dict[str, object]:
    try:
        from containerd_py.oci.cdi_yaml import load_yaml_object  # needs an extra
    except ImportError as error:
        raise MissingExtraError(f"{what} is YAML: install containerd-py[cdi] to read it") from error
    return load_yaml_object(data, what=what)


def _spec_files(directory: Path, problems: list[str]) -> list[Path]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return []
    return [
        Path(entry)
        for entry in entries
        if entry.name.endswith((".json", ".yaml")) and not entry.is_dir(follow_symlinks=False)
    ]
