"""A container on a fresh snapshot of an image: its identity, its spec, its record; all of it or nothing."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Final, Unpack

import attrs

from containerd_py._flows.container_volumes import fill_volumes, holding_volumes, make_volumes
from containerd_py._flows.defaults import namespace_labels, snapshotter_of
from containerd_py._flows.health_labels import health_labels
from containerd_py._flows.host_options import host_options
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.name_store import acquire_name, check_name, release_name
from containerd_py._flows.nerdctl_labels import nerdctl_labels, with_nerdctl_annotations
from containerd_py._flows.plan_networks import NetworkOptions, plan_networks
from containerd_py._flows.prepare_snapshot import prepare_snapshot
from containerd_py._flows.remapped_snapshot import runtime_for, snapshot_base
from containerd_py._flows.restarts import restart_labels
from containerd_py._flows.same_host import require_same_host
from containerd_py._flows.specs import spec_to_value
from containerd_py._flows.state_directory import StateDirectory, holding_state_directory
from containerd_py._flows.undoing import Undo, settled, undoing
from containerd_py._flows.unpack import is_unpacked
from containerd_py._flows.users import look_up_groups, look_up_user
from containerd_py._flows.volume_mounts import VolumeMount, all_mounts, volume_labels, volume_wishes
from containerd_py._flows.volume_store import VolumeStore
from containerd_py._transport.scope import check_identifier
from containerd_py.container import Container
from containerd_py.errors import AlreadyExistsError, InvalidArgumentError
from containerd_py.image import Image
from containerd_py.labels import DEFAULT_RUNTIME, STOP_SIGNAL
from containerd_py.oci import runtime_spec
from containerd_py.oci.default_spec import default_spec
from containerd_py.oci.health_check import HealthCheck
from containerd_py.oci.host import supports_seccomp, uses_cgroup2
from containerd_py.oci.image_options import check_image_config
from containerd_py.oci.image_spec import ImageConfig, chain_ids, container_labels
from containerd_py.oci.runtime_spec import NamespaceType
from containerd_py.oci.seccomp import finish_seccomp
from containerd_py.oci.spec_options import (
    SpecOption,
    compose,
    with_appended_groups,
    with_default_seccomp,
    with_env,
    with_image_config,
    with_mounts,
    with_process_cwd,
    with_rootfs_readonly,
    with_tty,
    with_user,
    with_user_namespace,
)
from containerd_py.oci.user_namespaces import UserNamespace
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.runc import RuncOptions
from containerd_py.types import NO_LABELS, Mount
from containerd_py.typeurl import TypedValue

_log = logging.getLogger(__name__)
RUNC: Final = "io.containerd.runc.v2"  # containerd defaults
Env = Mapping[str, str | None] | Sequence[str]


class ContainerOptions(NetworkOptions, total=False):
    """What `create_container`, `run` and `open_run` have in common; see `Client.create_container`."""

    id: str | None
    env: Env | None
    cwd: str | None
    user: str | None
    mounts: Sequence[runtime_spec.Mount | Mount]
    spec_options: Sequence[SpecOption]
    snapshotter: str | None
    read_only: bool
    runtime: str | Runtime | RuncOptions | None
    labels: Mapping[str, str] | None
    extensions: Mapping[str, TypedValue] | None
    namespaces: Mapping[NamespaceType, str] | None
    devices: Sequence[str]
    cdi_devices: Sequence[str]
    groups: Sequence[str]
    sandbox: str
    init: bool | str
    name: str | None
    volumes: Sequence[VolumeMount | str]
    image_volumes: bool
    restart: str | None
    health_check: HealthCheck | None
    user_namespace: UserNamespace | None


@attrs.frozen
class Created:
    """A container just created, with what a task needs next."""

    container: Container
    record: ContainerRecord
    rootfs: list[Mount]


async def create_container(
    services: Services,
    *,
    image: Image,
    id: str | None = None,  # noqa: A002
    args: Sequence[str] | None = None,
    env: Env | None = None,
    cwd: str | None = None,
    user: str | None = None,
    mounts: Sequence[runtime_spec.Mount | Mount] = (),
    terminal: bool = False,
    spec_options: Sequence[SpecOption] = (),
    snapshotter: str | None = None,
    read_only: bool = False,
    runtime: str | Runtime | RuncOptions | None = None,
    labels: Mapping[str, str] | None = None,
    extensions: Mapping[str, TypedValue] | None = None,
    name: str | None = None,
    namespaces: Mapping[NamespaceType, str] | None = None,
    devices: Sequence[str] = (),
    cdi_devices: Sequence[str] = (),
    groups: Sequence[str] = (),
    sandbox: str = "",
    init: bool | str = False,
    user_namespace: UserNamespace | None = None,
    volumes: Sequence[VolumeMount | str] = (),
    image_volumes: bool = False,
    restart: str | None = None,
    health_check: HealthCheck | None = None,
    **networking: Unpack[NetworkOptions],
) -> Created:
    """Create a container of an image; snapshot, spec and record are undone together when that fails."""
    container_id = secrets.token_hex(32) if id is None else check_identifier(id, "container ID")
    if isinstance(args, str | bytes):
        raise InvalidArgumentError(f"args must be a list of strings, not the string {args!r}")
    if not isinstance(image, Image):
        raise InvalidArgumentError(f"image must be an Image or a reference, not {image!r}")
    if name is not None:
        check_name(name, "container")
    await require_same_host(services, "a container is created, with users and groups from its files,")
    defaults = NO_LABELS if snapshotter and runtime else await namespace_labels(services)
    snapshotter_name = snapshotter or snapshotter_of(defaults)
    config = await image.config()
    check_image_config(config)
    chain_id = ["", *chain_ids(config.diff_ids)][-1]
    if not await is_unpacked(services, chain_id, snapshotter_name):
        await image.unpack(snapshotter_name)
    chosen_runtime = _runtime(defaults, runtime)
    if user_namespace is not None:
        chosen_runtime = runtime_for(chosen_runtime, user_namespace.checked())
    if networking.get("network") is not None and "network" in (namespaces or {}):
        raise InvalidArgumentError(
            "network and namespaces['network'] say both where the container's network is: drop one"
        )
    plan = await plan_networks(services, container_id, name, networking, is_mapped=user_namespace is not None)
    looked_up = await host_options(services, namespaces=namespaces, devices=devices, cdi_devices=cdi_devices, init=init)
    restarting = await restart_labels(services, restart)
    wishes = volume_wishes(volumes, config, of_image=image_volumes, mounts=mounts)
    async with (
        _state_directory(services, container_id, wanted=name is not None or plan.state is not None) as state,
        _volume_store(services, wanted=bool(wishes)) as store,
        undoing(services.connection) as undo,
    ):
        if state is not None and name is not None:
            with undo.making(f"releasing the name {name}", partial(release_name, state, name)):
                await acquire_name(services, state, name)
        mounted = [] if store is None else await make_volumes(store, undo, wishes)
        chosen_labels = _labels(config, labels) | volume_labels(mounted, mounts) | restarting
        chosen_labels |= health_labels(health_check, config)
        chosen_labels |= nerdctl_labels(
            namespace=services.namespace,
            platform=config.platform,
            networks=plan.names,
            state=state,
            name=name,
        )
        async with hold_lease(services) as leased:
            rootfs = await _prepare(leased, undo, snapshotter_name, container_id, chain_id, user_namespace)
            await fill_volumes(mounted, rootfs)
            found = await look_up_user(config.user if user is None else user, rootfs)
            options = compose(
                with_image_config(config, args),
                with_user(found),
                *([with_appended_groups(*await look_up_groups(groups, rootfs))] if groups else []),
                *_options(env=env, cwd=cwd, mounts=all_mounts(mounted, mounts), terminal=terminal, read_only=read_only),
                *([] if user_namespace is None else [with_user_namespace(user_namespace.uids, user_namespace.gids)]),
                *plan.spec_options(state),
                looked_up,
                *spec_options,
            )
            given = _default_spec(services.namespace, container_id)
            spec = finish_seccomp(given, with_nerdctl_annotations(chosen_labels)(options(given)))
            if not spec.get("process", {}).get("args"):
                raise InvalidArgumentError(f"{image!r} says no command to run: give args")
            record = ContainerRecord(
                id=container_id,
                image=image.name,
                labels=chosen_labels,
                runtime=chosen_runtime,
                spec=spec_to_value(spec),
                snapshotter=snapshotter_name,
                snapshot_key=container_id,
                extensions=extensions or {},
                sandbox=sandbox,
            )
            if state is not None:
                await plan.carry_out(state)
            with undo.making(f"deleting container {container_id}", lambda: services.containers.delete(container_id)):
                record = await settled(lambda: leased.containers.create(record))
        undo.keep()  # after the lease has gone: a cancellation while it goes undoes everything
    return Created(Container(services, container_id), record, rootfs)


def _state_directory(
    services: Services, container_id: str, *, wanted: bool
) -> AbstractAsyncContextManager[StateDirectory | None]:
    return holding_state_directory(services, container_id) if wanted else nullcontext()


def _volume_store(services: Services, *, wanted: bool) -> AbstractAsyncContextManager[VolumeStore | None]:
    return holding_volumes(services) if wanted else nullcontext()


async def _prepare(
    services: Services, undo: Undo, snapshotter: str, key: str, parent: str, ids: UserNamespace | None
) -> list[Mount]:
    snapshots = services.snapshotter(snapshotter)
    base, labels = (parent, NO_LABELS) if ids is None else await snapshot_base(services, snapshotter, parent, ids)
    with undo.making(f"removing snapshot {key}", lambda: snapshots.remove(key)):
        try:
            return await prepare_snapshot(snapshots, key, parent=base, labels=labels)
        except AlreadyExistsError as error:
            raise AlreadyExistsError(
                f"container ID {key!r} is taken: a container of that ID is there, or left its snapshot; take another"
            ) from error


def _default_spec(namespace: str, container_id: str) -> runtime_spec.Spec:
    spec = default_spec(namespace=namespace, id=container_id, cgroup2=uses_cgroup2())
    return with_default_seccomp()(spec) if supports_seccomp() else spec  # runc refuses what the kernel has not


def _runtime(defaults: Mapping[str, str], runtime: str | Runtime | RuncOptions | None) -> Runtime:
    if isinstance(runtime, Runtime):
        return runtime
    if isinstance(runtime, RuncOptions):
        return Runtime(name=RUNC, options=runtime)
    return Runtime(name=runtime or defaults.get(DEFAULT_RUNTIME) or RUNC)


def _labels(config: ImageConfig, labels: Mapping[str, str] | None) -> dict[str, str]:
    taken = container_labels(config)
    for dropped in taken.dropped:
        _log.warning("a label of the image is not taken over: %.200s is %s", dropped.key, dropped.reason)
    chosen = dict(taken.labels)
    chosen[STOP_SIGNAL] = config.stop_signal or "SIGTERM"
    return chosen | dict(labels or {})


def _options(
    *,
    env: Env | None,
    cwd: str | None,
    mounts: Sequence[runtime_spec.Mount | Mount],
    terminal: bool,
    read_only: bool,
) -> list[SpecOption]:
    options: list[SpecOption] = []
    if terminal:
        options.append(with_tty())
    if env:
        options.append(with_env(env))
    if cwd is not None:
        options.append(with_process_cwd(cwd))
    if mounts:
        options.append(with_mounts(mounts))
    if read_only:
        options.append(with_rootfs_readonly())
    return options
