"""A container made again from a checkpoint: its spec, its runtime, its image, and what it changed of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Final

import attrs

from containerd_py._flows.checkpoint import IMAGE_NAME, IMAGE_REF, RUNTIME_NAME, SNAPSHOTTER_NAME
from containerd_py._flows.defaults import chosen_snapshotter
from containerd_py._flows.image_content import read_blob, read_index
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.load_image import load_image
from containerd_py._flows.nerdctl_labels import (
    nerdctl_labels,
    with_nerdctl_annotations,
    without_nerdctl_annotations,
)
from containerd_py._flows.plan_networks import NetworkOptions, plan_networks, with_own_network
from containerd_py._flows.prepare_snapshot import prepare_snapshot
from containerd_py._flows.remapped_snapshot import snapshot_base
from containerd_py._flows.specs import spec_of, spec_to_value
from containerd_py._flows.state_directory import holding_state_directory
from containerd_py._flows.undoing import Undo, settled, undoing
from containerd_py._transport.scope import check_identifier
from containerd_py.container import Container
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.image import Image
from containerd_py.labels import STOP_SIGNAL
from containerd_py.oci.default_spec import cgroup_path
from containerd_py.oci.image_spec import Index, container_labels
from containerd_py.oci.media_types import (
    MEDIA_TYPE_CHECKPOINT_CONFIG,
    MEDIA_TYPE_CHECKPOINT_RUNTIME_OPTIONS,
    is_index,
    is_layer,
)
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.spec_editing import SpecOption, compose
from containerd_py.oci.user_namespaces import HOST_IDS, UserNamespace, user_namespace_of
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.wire import typed_from_bytes
from containerd_py.types import NO_LABELS, Descriptor, Mount

_MAX_TYPED: Final = 16 * 2**20  # bytes of a spec or of a runtime's options: what one message may have
_DEFAULT_CGROUP: Final = re.compile(r"/[^/:]+/[^/:]+")


@attrs.frozen(kw_only=True)
class _Found:
    """What a checkpoint says of the container it was made of."""

    image: str
    runtime: Runtime
    snapshotter: str
    spec: Spec
    rw: Descriptor | None


async def restore_container(
    services: Services,
    id: str,  # noqa: A002
    checkpoint: Image | str,
    *,
    rw: bool = True,
    spec_options: Sequence[SpecOption] = (),
    labels: Mapping[str, str] = NO_LABELS,
    networking: NetworkOptions | None = None,
) -> Container:
    """Create a container as a checkpoint tells it; see `Client.restore_container`."""
    container_id = check_identifier(id, "container ID")
    found = await _read(services, await _loaded(services, checkpoint))
    image = await load_image(services, found.image)
    snapshotter = await chosen_snapshotter(services, found.snapshotter or None)
    if not await image.is_unpacked(snapshotter):
        await image.unpack(snapshotter)
    chain_id = await image.chain_id()
    config = await image.config()
    stop_signal = {STOP_SIGNAL: config.stop_signal or "SIGTERM"}
    chosen_labels = {**container_labels(config).labels, **stop_signal, **labels}
    namespaces = found.spec.get("linux", {}).get("namespaces", [])
    is_mapped = any(namespace["type"] == "user" for namespace in namespaces)
    plan = await plan_networks(services, container_id, None, networking or {}, is_mapped=is_mapped)
    own = with_own_network()(found.spec)
    is_connected = networking is not None and networking.get("network") is not None
    networks = plan.names if is_connected else _networks(own)
    async with (
        holding_state_directory(services, container_id) if plan.state is not None else nullcontext() as state,
        undoing(services.connection) as undo,
    ):
        chosen_labels |= nerdctl_labels(
            namespace=services.namespace, platform=config.platform, networks=networks, state=state, name=None
        )
        connected = plan.spec_options(state) if is_connected or state is not None else []
        options = [without_nerdctl_annotations(), *connected, *spec_options, with_nerdctl_annotations(chosen_labels)]
        spec = compose(*options)(_in_own_cgroup(own, services.namespace, container_id))
        async with hold_lease(services) as leased:
            mounts = await _prepare(leased, undo, snapshotter, container_id, chain_id, user_namespace_of(own))
            if rw and found.rw is not None:
                layer = found.rw
                await settled(lambda: leased.diff.apply(layer, mounts))
            record = ContainerRecord(
                id=container_id,
                image=image.name,
                labels=chosen_labels,
                runtime=found.runtime,
                spec=spec_to_value(spec),
                snapshotter=snapshotter,
                snapshot_key=container_id,
            )
            if state is not None:
                await plan.carry_out(state)
            with undo.making(f"deleting container {container_id}", lambda: services.containers.delete(container_id)):
                await settled(lambda: leased.containers.create(record))
        undo.keep()
    return Container(services, container_id)


async def _loaded(services: Services, checkpoint: Image | str) -> Image:
    return await load_image(services, checkpoint) if isinstance(checkpoint, str) else checkpoint


async def _read(services: Services, checkpoint: Image) -> _Found:
    if not is_index(checkpoint.target.media_type):
        raise InvalidArgumentError(f"{checkpoint.name} is no checkpoint: a checkpoint is an index")
    index = await read_index(services, checkpoint.target)
    config = _member(index, MEDIA_TYPE_CHECKPOINT_CONFIG)
    if config is None:
        raise InvalidArgumentError(f"{checkpoint.name} is no checkpoint of a container: it has no spec in it")
    image = index.annotations.get(IMAGE_REF) or index.annotations.get(IMAGE_NAME)
    if not image:
        raise NotFoundError(f"the checkpoint {checkpoint.name} does not say which image its container was made of")
    value = typed_from_bytes(await read_blob(services, config, limit=_MAX_TYPED), what=f"the spec in {checkpoint.name}")
    options = None
    if (described := _member(index, MEDIA_TYPE_CHECKPOINT_RUNTIME_OPTIONS)) is not None:
        data = await read_blob(services, described, limit=_MAX_TYPED)
        options = typed_from_bytes(data, what=f"the runtime's options in {checkpoint.name}")
    runtime = Runtime(name=index.annotations.get(RUNTIME_NAME) or "io.containerd.runc.v2", options=options)
    return _Found(
        image=image,
        runtime=runtime,
        snapshotter=index.annotations.get(SNAPSHOTTER_NAME, ""),
        spec=spec_of(ContainerRecord(id=checkpoint.name, runtime=runtime, spec=value)),
        rw=next((member for member in index.manifests if is_layer(member.media_type)), None),
    )


def _member(index: Index, media_type: str) -> Descriptor | None:
    return next((member for member in index.manifests if member.media_type == media_type), None)


def _networks(spec: Spec) -> list[str]:
    """Return the networks as nerdctl calls them: it is attached to none of those it was on."""
    namespaces = [entry["type"] for entry in spec.get("linux", {}).get("namespaces", [])]
    return ["none"] if "network" in namespaces else ["host"]


def _in_own_cgroup(spec: Spec, namespace: str, container_id: str) -> Spec:
    """Let a container that was in the cgroup named after it be in one named after the new one: two cannot share it."""
    linux = spec.get("linux")
    if linux is None or not _DEFAULT_CGROUP.fullmatch(linux.get("cgroupsPath", "")):
        return spec
    return {**spec, "linux": {**linux, "cgroupsPath": cgroup_path(namespace, container_id)}}


async def _prepare(
    services: Services, undo: Undo, snapshotter: str, key: str, parent: str, ids: UserNamespace
) -> list[Mount]:
    snapshots = services.snapshotter(snapshotter)
    base, labels = (parent, NO_LABELS)
    if ids != HOST_IDS:
        base, labels = await snapshot_base(services, snapshotter, parent, ids.checked())
    with undo.making(f"removing snapshot {key}", lambda: snapshots.remove(key)):
        return await prepare_snapshot(snapshots, key, parent=base, labels=labels)
