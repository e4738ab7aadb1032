"""What images in an archive are called: from annotations to image names and back, by containerd's rules. Pure.

Source: containerd, core/images/archive (reference.go) and pkg/reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from containerd_py.archives.documents import IMAGE_NAME
from containerd_py.errors import InvalidArgumentError
from containerd_py.references import Reference

REF_NAME: Final = "org.opencontainers.image.ref.name"  # annotation: a tag, or more (OCI image specification)

# containerd takes names for URLs: a host, perhaps with a port, comes before the first slash, and a tag after that.
_WITH_HOST: Final = re.compile(r"(?!.*://)(?:\[[^/\]]*\]|[^/:]+)(?::[0-9]*)?/[^:@]*:(.+)", re.DOTALL)

Translate = Callable[[str], str]  # from a ref.name to an image name; "" leaves the name out


def name_annotations(name: str) -> dict[str, str]:
    """Return the annotations that say what an image is called."""
    return {IMAGE_NAME: name, REF_NAME: _ref_name(name)}


def _ref_name(name: str) -> str:
    """Return the part after the repository, as the OCI suggests; the whole name where there is only a digest."""
    parts = _WITH_HOST.fullmatch(name)
    return name if parts is None else parts[1]


def familiar_name(name: str) -> str | None:
    """Return the short form that Docker uses, with a tag; None for a name that Docker could not read."""
    try:
        reference = Reference.parse(name)
    except InvalidArgumentError:
        return None
    return reference.familiar


def docker_name(repo_tag: str) -> str:
    """Return the full name for an entry of Docker's RepoTags.

    Raises:
        InvalidArgumentError: It is no reference.
    """
    reference = Reference.parse(repo_tag)
    if reference.digest is not None:
        reference = reference.with_tag(None)  # as Docker reads a name with both
    return str(reference)


def image_name(annotations: Mapping[str, str], translate: Translate) -> str:
    """Return what an image is to be called; "" if nothing says so."""
    name = annotations.get(IMAGE_NAME, "")
    if name:
        return name
    ref_name = annotations.get(REF_NAME, "")
    return translate(ref_name) if ref_name else ""


def add_base_name(base: str) -> Translate:
    """Complete names that are only a tag; full names stay as they are."""
    return lambda ref: ref if _is_full(ref) else f"{base}:{ref}"


def filter_base_name(base: str) -> Translate:
    """Complete names that are only a tag, and leave full names of other images out."""
    return lambda ref: (ref if _begins_with(ref, base) else "") if _is_full(ref) else f"{base}:{ref}"


def _is_full(ref: str) -> bool:
    return any(separator in ref for separator in "/:@")


def _begins_with(ref: str, base: str) -> bool:
    return ref == base or ref.startswith((f"{base}/", f"{base}:", f"{base}@"))
