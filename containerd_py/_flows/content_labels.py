"""The names and labels under which image content lives at the daemon. Pure: knows descriptors, calls nothing.

They are those of containerd's own client, so that `ctr` and we resume each other's downloads and protect the same
content.
Source: containerd, core/remotes (MakeRefKey), core/images (ChildGCLabels), core/remotes/docker (distribution source).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import DISTRIBUTION_SOURCE, GC_REF_CONTENT, GC_REF_SNAPSHOT, SNAPSHOT_REF, check_labels
from containerd_py.oci.media_types import is_attestation, is_index, is_known_config, is_layer, is_manifest
from containerd_py.references import PATH_RE, Reference
from containerd_py.types import Descriptor

REF_NAME: Final = "org.opencontainers.image.ref.name"  # annotation (OCI image specification)
_SNAPSHOT_PREFIX: Final = "containerd.io/snapshot/"  # annotations that become labels of the layer's snapshot


def ingest_ref(descriptor: Descriptor) -> str:
    """Name the ingest of some content; progress calls the content by the same name."""
    name = descriptor.annotations.get(REF_NAME)
    key = descriptor.digest if name is None else f"{name}@{descriptor.digest}"
    return f"{_kind(descriptor.media_type)}-{key}"


def _kind(media_type: str) -> str:
    for kind, is_kind in (
        ("manifest", is_manifest),
        ("index", is_index),
        ("layer", is_layer),
        ("config", is_known_config),
        ("attestation", is_attestation),
    ):
        if is_kind(media_type):
            return kind
    return "unknown"


def child_labels(children: Iterable[Descriptor]) -> dict[str, str]:
    """Return the labels with which a manifest or index keeps its children from the garbage collection."""
    labels: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for child in children:
        prefix = _child_prefix(child.media_type)
        number = counts[prefix]
        counts[prefix] += 1
        key = f"{prefix}{number}" if number or prefix.endswith(".") else prefix
        labels[key] = child.digest
    return labels


def _child_prefix(media_type: str) -> str:
    if is_known_config(media_type):
        return f"{GC_REF_CONTENT}.config"
    if is_manifest(media_type):
        return f"{GC_REF_CONTENT}.m."
    if is_layer(media_type):
        return f"{GC_REF_CONTENT}.l."
    return f"{GC_REF_CONTENT}."


def source_labels(reference: Reference, present: Mapping[str, str]) -> dict[str, str]:
    """Return the label saying where content came from, added to what `present` labels say.

    Empty where it would not fit into a label any more. The registry's port is no part of the key, as in containerd.
    """
    key = f"{DISTRIBUTION_SOURCE}.{_host_name(reference.domain)}"
    repositories = {*present.get(key, "").split(","), reference.path} - {""}
    labels = {key: ",".join(sorted(repositories))}
    try:
        check_labels(labels)
    except InvalidArgumentError:
        return {}
    return labels


def mount_candidate(reference: Reference, labels: Iterable[Mapping[str, str]]) -> str | None:
    """Choose the repository of the reference's registry that content may be mounted from; None if none is known.

    `labels` are the content's own, then those of the documents that name it. Of several repositories the one is taken
    whose path begins most like the reference's, as it is most likely that the same people may read both.
    """
    key = f"{DISTRIBUTION_SOURCE}.{_host_name(reference.domain)}"
    known = next((value for one in labels if (value := one.get(key))), "")
    others = [path for path in known.split(",") if path != reference.path and PATH_RE.fullmatch(path)]
    wanted = reference.path.split("/")
    # Of equals the last, as containerd does.
    return max(reversed(others), key=lambda path: _common_parts(wanted, path.split("/")), default=None)


def _common_parts(one: Sequence[str], other: Sequence[str]) -> int:
    equal = [a == b for a, b in zip(one, other, strict=False)]
    return [*equal, False].index(False)


def _host_name(domain: str) -> str:
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def snapshot_labels(layer: Descriptor, chain_id: str) -> dict[str, str]:
    """Return the labels of a layer's snapshot: what its annotations hand down, and what it is to become."""
    inherited = {key: value for key, value in layer.annotations.items() if key.startswith(_SNAPSHOT_PREFIX)}
    return inherited | {SNAPSHOT_REF: chain_id}


def snapshot_ref_label(snapshotter: str) -> str:
    """Name the label with which an image's configuration keeps its snapshots."""
    return f"{GC_REF_SNAPSHOT}.{snapshotter}"
