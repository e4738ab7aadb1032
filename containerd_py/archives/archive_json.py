"""What an archive says about itself, read from JSON nobody vouches for: its layout's version, Docker's manifest.json.

Knows the OCI image layout and Docker's `docker save` (v1.1 and v1.2). Pure.
"""

from __future__ import annotations

from typing import Final

from containerd_py.archives.documents import DOCKER_FILE, LAYOUT_FILE, LAYOUT_VERSION, DockerImage
from containerd_py.errors import ArchiveError, InvalidArgumentError
from containerd_py.oci.image_spec import MAX_REFERENCES
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

_IMAGES: Final = "images"
_MAX_STRUCTURE: Final = 20 * MAX_REFERENCES  # objects, arrays and commas


def check_layout(data: bytes) -> None:
    """Accept the layout's version that there is.

    Raises:
        ArchiveError: The document is damaged or says another version.
    """
    fields = _fields(data, LAYOUT_FILE, frozenset({"imageLayoutVersion"}))
    try:
        version = fields.string("imageLayoutVersion")
    except InvalidArgumentError as error:
        raise ArchiveError(str(error)) from error
    if version != LAYOUT_VERSION:
        raise ArchiveError(f"this is an OCI image layout of version {version[:32]!a}, expected {LAYOUT_VERSION}")


def read_docker_images(data: bytes) -> list[DockerImage]:
    """Read a manifest.json.

    Raises:
        ArchiveError: It is damaged or ambiguous; the message has the field's path.
    """
    if sum(map(data.count, (b"{", b"[", b","))) > _MAX_STRUCTURE:
        raise ArchiveError(f"{DOCKER_FILE} has more than {_MAX_STRUCTURE} members")  # each takes many times its length
    # The reader of strict JSON wants an object, and this document is an array.
    fields = _fields(b'{"images":' + data + b"}", DOCKER_FILE, frozenset({_IMAGES}))
    if set(fields.members) != {_IMAGES}:
        raise ArchiveError(f"{DOCKER_FILE}: expected an array of images")
    try:
        entries = fields.nested_array(_IMAGES, frozenset({"Config", "RepoTags", "Layers"}))
        images = [
            DockerImage(
                config=entry.string("Config"), layers=entry.strings("Layers"), repo_tags=entry.strings("RepoTags")
            )
            for entry in entries
        ]
    except InvalidArgumentError as error:
        raise ArchiveError(str(error)) from error
    named = sum(len(image.layers) + len(image.repo_tags) + 1 for image in images)
    if named > MAX_REFERENCES:
        raise ArchiveError(f"{DOCKER_FILE} names {named} things, more than the {MAX_REFERENCES} allowed")
    return images


def _fields(data: bytes, what: str, known: frozenset[str]) -> Fields:
    try:
        return Fields(members=load_object(data, what=what, max_size=len(data)), known=known, what=what)
    except InvalidArgumentError as error:
        raise ArchiveError(str(error)) from error
