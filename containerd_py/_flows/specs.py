"""OCI runtime documents as the daemon keeps them: JSON inside a typed value. Unknown members survive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from containerd_py.errors import DataLossError, InvalidArgumentError, NotFoundError
from containerd_py.oci.runtime_spec import Process, Resources, Spec
from containerd_py.oci.spec_json import spec_from_json, spec_to_json
from containerd_py.services.containers import ContainerRecord
from containerd_py.typeurl import RUNTIME_PROCESS, RUNTIME_RESOURCES, RUNTIME_SPEC, TypedValue


def _to_value(type_url: str, document: Mapping[str, Any]) -> TypedValue:
    return TypedValue(type_url=type_url, value=spec_to_json(cast("Spec", document)))


def spec_to_value(spec: Spec) -> TypedValue:
    """Return a spec as a container record keeps it."""
    return _to_value(RUNTIME_SPEC, spec)


def process_to_value(process: Process) -> TypedValue:
    """Return a process as Tasks.Exec takes it."""
    return _to_value(RUNTIME_PROCESS, process)


def resources_to_value(resources: Resources) -> TypedValue:
    """Return resource limits as Tasks.Update takes them."""
    return _to_value(RUNTIME_RESOURCES, resources)


def spec_of(record: ContainerRecord) -> Spec:
    """Return a container's spec.

    Raises:
        NotFoundError: It was created without one.
        DataLossError: What is kept there is no JSON object, or an ambiguous one.
    """
    if record.spec is None:
        raise NotFoundError(f"container {record.id} has no spec")
    try:
        return spec_from_json(record.spec.value)
    except InvalidArgumentError as error:
        raise DataLossError(f"the spec of container {record.id} cannot be read: {error}") from error
