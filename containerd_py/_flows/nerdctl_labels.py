"""What nerdctl wants to know of a container, as labels and annotations; without them some of its commands refuse it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from containerd_py import platforms
from containerd_py._flows.state_directory import StateDirectory
from containerd_py.labels import (
    NERDCTL,
    NERDCTL_NAME,
    NERDCTL_NAMESPACE,
    NERDCTL_NETWORKS,
    NERDCTL_PLATFORM,
)
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.spec_editing import SpecOption, spec_option
from containerd_py.types import Platform


def nerdctl_labels(
    *,
    namespace: str,
    platform: Platform | None,
    networks: Sequence[str],
    state: StateDirectory | None,
    name: str | None,
) -> dict[str, str]:
    """Return the labels of a container, `networks` as nerdctl calls them ("none", "host", names)."""
    labels = {NERDCTL_NAMESPACE: namespace, NERDCTL_NETWORKS: json.dumps(list(networks))}
    if platform is not None:
        labels[NERDCTL_PLATFORM] = platforms.format(platform)
    if state is not None:
        labels |= state.labels
    if name is not None:
        labels[NERDCTL_NAME] = name
    return labels


def without_nerdctl_annotations() -> SpecOption:
    """Leave out what a spec says of the container it was made for."""

    def edit(spec: Spec) -> None:
        kept = {key: value for key, value in spec.get("annotations", {}).items() if not key.startswith(NERDCTL)}
        spec["annotations"] = kept

    return spec_option(edit)


def with_nerdctl_annotations(labels: Mapping[str, str]) -> SpecOption:
    """Repeat nerdctl's labels in the spec: its `stop` and `rm` look there."""

    def edit(spec: Spec) -> None:
        found = {key: value for key, value in labels.items() if key.startswith(NERDCTL)}
        spec["annotations"] = spec.get("annotations", {}) | found

    return spec_option(edit)
