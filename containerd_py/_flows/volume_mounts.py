"""Which volumes a container wants, as users, images and labels say it. Pure."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from containerd_py import types
from containerd_py._flows.name_store import check_name
from containerd_py._flows.volume_store import ANONYMOUS, Volume
from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import NERDCTL_MOUNTS
from containerd_py.oci.image_spec import ImageConfig
from containerd_py.oci.mount_options import with_mounts
from containerd_py.oci.runtime_spec import Mount
from containerd_py.oci.strict_json import load_object

_MAX_IMAGE_VOLUMES: Final = 100  # honest images have a handful; each becomes a directory, a mount and a label
_MAX_LABEL: Final = 4096  # bytes
_FORBIDDEN: Final = ("/dev", "/proc", "/sys")  # and below: what the runtime itself mounts
Mounts = Sequence[Mount | types.Mount]
_MODES: Final = {"rw": False, "ro": True}


@attrs.frozen(kw_only=True)
class VolumeMount:
    """A volume to be mounted in a container: at `destination`, the volume `name`, or None for one of its own.

    A volume that is not there is made. An empty one gets what the image has at the destination, unless `copy` is False.
    """

    destination: str
    name: str | None = None
    read_only: bool = False
    copy: bool = True

    def __attrs_post_init__(self) -> None:
        if not self.destination.startswith("/") or "\0" in self.destination:
            raise InvalidArgumentError(f"a volume is mounted at an absolute path, not at {self.destination!a}")
        place = self.place
        if place == "/" or any(place == path or place.startswith(f"{path}/") for path in _FORBIDDEN):
            raise InvalidArgumentError(f"no volume can be mounted at {self.destination!a}")
        if self.name is not None:
            check_name(self.name, "volume")

    @property
    def place(self) -> str:
        """The destination without detours."""
        return "/" + posixpath.normpath(self.destination).lstrip("/")


@attrs.frozen(kw_only=True)
class MountedVolume:
    """A volume, and how a container has it mounted."""

    wish: VolumeMount
    volume: Volume

    @property
    def spec_mount(self) -> Mount:
        """The mount for the runtime."""
        mode = "ro" if self.wish.read_only else "rw"
        options = ["rbind", "rprivate", mode]
        return {"type": "bind", "source": self.volume.path, "destination": self.wish.place, "options": options}


def volume_wishes(
    given: Iterable[VolumeMount | str], config: ImageConfig, *, of_image: bool, mounts: Mounts
) -> list[VolumeMount]:
    """Return which volumes a container is to have, the ones it lies in before the ones that lie in them.

    `of_image`: also those that the image declares, where nothing else is mounted.

    Raises:
        InvalidArgumentError: One is no volume, or two are mounted at the same place.
    """
    if isinstance(given, str):
        raise InvalidArgumentError(f"volumes must be a list, not the string {given!a}")
    wishes = [parse_volume(wish) if isinstance(wish, str) else wish for wish in given]
    if not wishes and not of_image:
        return []
    places = {posixpath.normpath(mount["destination"]) for mount in _spec_mounts(mounts)}
    for wish in wishes:
        if wish.place in places:
            raise InvalidArgumentError(f"two things are to be mounted at {wish.place}: choose one")
        places.add(wish.place)
    if of_image:
        if len(config.volumes) > _MAX_IMAGE_VOLUMES:
            raise InvalidArgumentError(
                f"the image declares {len(config.volumes)} volumes, more than {_MAX_IMAGE_VOLUMES}: "
                "set image_volumes=False"
            )
        # A relative one starts at the root, as for Docker.
        declared = [VolumeMount(destination=posixpath.join("/", path)) for path in config.volumes]
        wishes += {wish.place: wish for wish in declared if wish.place not in places}.values()
    return sorted(wishes, key=lambda wish: wish.place.count("/"))


def parse_volume(text: str) -> VolumeMount:
    """Read "NAME:/path", "NAME:/path:ro" or "/path", as nerdctl's `-v` has them.

    Raises:
        InvalidArgumentError: It is none of them.
    """
    match text.split(":"):
        case [destination]:
            return VolumeMount(destination=destination)
        case [name, destination] if not name.startswith(("/", ".")):
            return VolumeMount(destination=destination, name=name)
        case [name, destination, mode] if not name.startswith(("/", ".")) and mode in _MODES:
            return VolumeMount(destination=destination, name=name, read_only=_MODES[mode])
    raise InvalidArgumentError(
        f"{text!a} is no volume: give NAME:/path, NAME:/path:ro or /path; a directory of the host belongs in mounts="
    )


def all_mounts(mounted: Sequence[MountedVolume], mounts: Mounts) -> Mounts:
    """Return volumes and other mounts, none before one that it lies in."""
    if not mounted:
        return mounts
    everything = [*_spec_mounts(mounts), *(item.spec_mount for item in mounted)]
    return sorted(everything, key=lambda mount: posixpath.normpath(mount["destination"]).count("/"))


def _spec_mounts(mounts: Mounts) -> list[Mount]:
    return with_mounts(mounts)({"ociVersion": ""}).get("mounts", [])


def volume_labels(mounted: Sequence[MountedVolume], mounts: Mounts) -> dict[str, str]:
    """Return the labels that tell which volumes a container uses, and by which nerdctl leaves them alone.

    Raises:
        InvalidArgumentError: They do not fit into labels.
    """
    if not mounted:
        return {}
    entries: list[dict[str, object]] = [
        {"Type": "bind", "Source": source, "Destination": mount["destination"], **_access(mount.get("options", ()))}
        for mount in _spec_mounts(mounts)
        if (source := mount.get("source", "")).startswith("/")
    ]
    entries += [
        {
            "Type": "volume",
            "Name": item.volume.name,
            "Source": item.volume.path,
            "Destination": item.wish.place,
            "Driver": "local",
            **_access(item.spec_mount["options"]),
        }
        for item in mounted
    ]
    labels = {f"{NERDCTL_MOUNTS}.{index}": json.dumps(entry) for index, entry in enumerate(entries)}
    if own := [item.volume.name for item in mounted if item.wish.name is None]:
        labels[ANONYMOUS] = json.dumps(own)
    for key, value in labels.items():
        if len(key) + len(value) > _MAX_LABEL:
            raise InvalidArgumentError(
                f"too many volumes without a name, or too long a path: label {key} grows too large"
            )
    return labels


def _access(options: Sequence[str]) -> dict[str, object]:
    mode = "ro" if "ro" in options else ""
    propagation = next((option for option in options if option.endswith(("private", "shared", "slave"))), "")
    return {"Mode": mode, "RW": not mode, "Propagation": propagation}


def volumes_in_labels(labels: Mapping[str, str]) -> set[str]:
    """Return the names of the volumes that a container's labels say it uses, whoever wrote them."""
    return {name for entry in _mount_entries(labels) if isinstance(name := entry.get("Name"), str) and name}


def own_volumes(labels: Mapping[str, str]) -> list[str]:
    """Return the names of the volumes that were made for a container alone; a damaged label names none."""
    members = _loads(f'{{"own": {labels[ANONYMOUS]}}}') if ANONYMOUS in labels else {}
    found = members.get("own")
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    return [name for name in names if _is_name(name)]


def _mount_entries(labels: Mapping[str, str]) -> Iterator[dict[str, object]]:
    for key, value in labels.items():
        if key == NERDCTL_MOUNTS or key.startswith(f"{NERDCTL_MOUNTS}."):
            members = _loads(f'{{"mounts": {value}}}').get("mounts")
            for entry in members if isinstance(members, list) else [members]:
                if isinstance(entry, dict) and entry.get("Type") == "volume":
                    yield entry


def _loads(text: str) -> dict[str, object]:
    try:
        return load_object(text.encode(), what="label", max_size=2 * _MAX_LABEL)
    except (InvalidArgumentError, UnicodeError):
        return {}


def _is_name(name: str) -> bool:
    try:
        check_name(name, "volume")
    except InvalidArgumentError:
        return False
    return True
