"""New resource limits for a container: for the task that runs, and in the spec for those to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from containerd_py._flows.specs import resources_to_value, spec_of, spec_to_value
from containerd_py._flows.undoing import settled
from containerd_py.errors import NotFoundError
from containerd_py.oci.runtime_spec import Resources, Spec
from containerd_py.oci.spec_json import clone
from containerd_py.services.bundle import Services
from containerd_py.services.tasks import TaskState

_HAS_LIMITS = frozenset({TaskState.CREATED, TaskState.RUNNING, TaskState.PAUSED, TaskState.PAUSING})


async def update_resources(services: Services, container_id: str, resources: Resources) -> Spec:
    """Change limits of the task, if there is one, then those of the spec, and return the spec.

    The task comes first: what the kernel refuses is not written down.
    """
    await services.containers.get(container_id)
    if await _has_live_task(services, container_id):
        value = resources_to_value(resources)
        await settled(lambda: services.tasks.update(container_id, resources=value))
    record = await services.containers.get(container_id)
    spec = with_merged_resources(spec_of(record), resources)
    changed = attrs.evolve(record, spec=spec_to_value(spec))
    await settled(lambda: services.containers.update(changed, fields=["spec"]))
    return spec


def with_merged_resources(spec: Spec, resources: Resources) -> Spec:
    """Lay limits over those of a spec: what is not mentioned stays."""
    merged = clone(spec)
    linux = merged.setdefault("linux", {})
    linux["resources"] = cast("Resources", _merged(linux.get("resources", {}), resources))
    return merged


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in clone(dict(above)).items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


async def _has_live_task(services: Services, container_id: str) -> bool:
    try:
        return (await services.tasks.get(container_id)).state in _HAS_LIMITS
    except NotFoundError:
        return False
