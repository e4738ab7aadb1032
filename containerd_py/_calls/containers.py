"""Containers created, found and run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Unpack

from containerd_py._calls.calls import Calls
from containerd_py._flows.create_container import ContainerOptions, Env, create_container
from containerd_py._flows.ensure_image import Policy, ensure_image
from containerd_py._flows.fifo_care import cleanup_fifos
from containerd_py._flows.name_store import holder_of_name
from containerd_py._flows.plan_networks import NetworkChoice, NetworkOptions
from containerd_py._flows.restore_container import restore_container
from containerd_py._flows.results import CompletedProcess, Input
from containerd_py._flows.run_task import open_run, run
from containerd_py._flows.state_directory import remove_leftover_directories
from containerd_py._flows.volume_mounts import VolumeMount
from containerd_py.cni.ports import PortMapping
from containerd_py.container import Container
from containerd_py.image import Image
from containerd_py.oci import runtime_spec
from containerd_py.oci.health_check import HealthCheck
from containerd_py.oci.runtime_spec import NamespaceType
from containerd_py.oci.spec_options import SpecOption
from containerd_py.oci.user_namespaces import UserNamespace
from containerd_py.remotes.registry import Registry
from containerd_py.services.containers import Runtime
from containerd_py.services.runc import RuncOptions
from containerd_py.task import Task
from containerd_py.types import NO_LABELS, Mount
from containerd_py.typeurl import TypedValue


class ContainerCalls(Calls):
    """Containers created, found and run."""

    async def create_container(
        self,
        id: str | None = None,  # noqa: A002
        *,
        image: Image | str,
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
        network: NetworkChoice | None = None,
        ports: Sequence[str | int | PortMapping] = (),
        hostname: str | None = None,
        dns: Sequence[str] = (),
        dns_search: Sequence[str] = (),
        dns_options: Sequence[str] = (),
        extra_hosts: Mapping[str, str] | None = None,
        ip: str | Sequence[str] | None = None,
        mac: str | None = None,
        plugin_arguments: Mapping[str, object] | None = None,
    ) -> Container:
        """Create a container of an image on a fresh snapshot; snapshot, spec and record are undone together on failure.

        `id` is generated where not given. A reference as `image` stands for `ensure_image` of it. `args` follow the
        image's entrypoint; without them its own command runs. `env` is laid over the image's, and None takes one of
        its variables away; `user` is looked up in the image ("name", "uid", "name:group", "uid:gid"). `spec_options`
        come last and see everything before them. Image labels become the container's, except those reserved for
        containerd. `name` is what users call it, also to nerdctl: one container of the namespace has it, and it is
        free again when that one is deleted.

        `volumes` are directories that outlive it, "NAME:/path" or a `VolumeMount`; "/path" is one of its own, which is
        removed with it, and so are, with `image_volumes`, those that the image declares. What is not there is made;
        what is empty gets the image's content.

        With `restart` the daemon itself starts its task again: "always", "unless-stopped", "on-failure" or
        "on-failure:5" for five times; where `Task.stop` ends it, or `Task.delete` by force, it stays so until it is
        started. What it writes then goes to a log, if its first task had one. `health_check` replaces the image's.

        `network` is a network of `client.networks`, by name, or several; "bridge" is the default one. "host" shares the
        host's, "container:ID" another container's; "none", as nothing at all, is a namespace with nothing but loopback.
        `ports` publishes ports: "8080:80", "127.0.0.1:8080:80/tcp", "5000-5009:5000-5009/udp"; without a host port one
        is chosen. `hostname`, `dns`, `dns_search`, `dns_options` and `extra_hosts` (name to address, "host-gateway"
        being the host's) fill its hosts, hostname and resolv.conf; `ip` and `mac` are its addresses on the network.
        `plugin_arguments` are more of what CNI calls capability arguments, by name, such as {"bandwidth": {…}}.
        `container.networks()` tells what came of it. The container is attached until it is deleted.

        `namespaces` says, by kind ("pid", "ipc", …), where the process lives: "host", "container:ID" of one that runs,
        the path of a namespace, "private". `devices` are the host's, "/dev/fuse" or "/dev/sda:/dev/disk:r"; of a
        directory, all in it. `cdi_devices` are names of devices as in `find_cdi_devices`. `groups` are added to the
        user's, by name or number. With `init` an init of the host, tini or the one named, starts the command and reaps
        what it leaves behind. `sandbox` is the ID of a sandbox to be in, from containerd 1.7 on.

        With `user_namespace` the container's root and its other users are unprivileged users of the host, and its files
        theirs: shown so by the snapshotter where it can (containerd 2.0's overlayfs on Linux 5.19), else in a copy that
        the containers of an image with the same maps share. `UserNamespace.of(100000)` maps 65,536 IDs.

        Raises:
            NotSupportedError: For a user namespace files would have to be copied, which this program cannot.
            AlreadyExistsError: The ID is taken, or the name is another container's.
            CNIError: A network plugin refused or failed; nothing is left of it.
            InvalidArgumentError: An argument cannot work: no command, no such user, no identifier.
        """
        ensured = (
            await ensure_image(self._services, image, snapshotter=snapshotter) if isinstance(image, str) else image
        )
        created = await create_container(
            self._services,
            id=id,
            image=ensured,
            args=args,
            env=env,
            cwd=cwd,
            user=user,
            mounts=mounts,
            terminal=terminal,
            spec_options=spec_options,
            snapshotter=snapshotter,
            read_only=read_only,
            runtime=runtime,
            labels=labels,
            extensions=extensions,
            name=name,
            namespaces=namespaces,
            devices=devices,
            cdi_devices=cdi_devices,
            groups=groups,
            sandbox=sandbox,
            init=init,
            user_namespace=user_namespace,
            volumes=volumes,
            image_volumes=image_volumes,
            restart=restart,
            health_check=health_check,
            network=network,
            ports=ports,
            hostname=hostname,
            dns=dns,
            dns_search=dns_search,
            dns_options=dns_options,
            extra_hosts=extra_hosts,
            ip=ip,
            mac=mac,
            plugin_arguments=plugin_arguments,
        )
        return created.container

    async def load_container(self, id: str) -> Container:  # noqa: A002
        """Return a container that is here.

        Raises:
            NotFoundError: There is none of that ID.
        """
        return Container(self._services, (await self._services.containers.get(id)).id)

    async def load_container_named(self, name: str) -> Container:
        """Return the container of a name, whoever gave it, nerdctl included.

        Raises:
            NotFoundError: There is none of that name.
        """
        return Container(self._services, await holder_of_name(self._services, name))

    async def list_containers(self, filters: Iterable[str] = ()) -> list[Container]:
        """Return the containers that match any of the filters, all without one."""
        return [Container(self._services, record.id) for record in await self._services.containers.list(filters)]

    async def restore_container(
        self,
        id: str,  # noqa: A002
        checkpoint: Image | str,
        *,
        rw: bool = True,
        spec_options: Sequence[SpecOption] = (),
        labels: Mapping[str, str] = NO_LABELS,
        network: NetworkChoice | None = None,
        ports: Sequence[str | int | PortMapping] = (),
        hostname: str | None = None,
        dns: Sequence[str] = (),
        dns_search: Sequence[str] = (),
        dns_options: Sequence[str] = (),
        extra_hosts: Mapping[str, str] | None = None,
        ip: str | Sequence[str] | None = None,
        mac: str | None = None,
        plugin_arguments: Mapping[str, object] | None = None,
    ) -> Container:
        """Create a container as a checkpoint tells it: its spec, runtime and image and, with `rw`, its files.

        `container.create_task(checkpoint=…)` of the same checkpoint then brings its processes back; a task without it
        begins from the start. It is on none of the networks it was on; `network` and what belongs to it are those of
        `create_container`. `spec_options` are laid over the spec, such as mounts that are elsewhere here. A spec can
        name programs to run on the host as root: restore only what you trust.

        Raises:
            NotFoundError: There is no such checkpoint here, or its container's image is not: pull that first.
            AlreadyExistsError: The ID is taken.
            InvalidArgumentError: The image is no checkpoint of a container.
        """
        networking: NetworkOptions = {
            "network": network,
            "ports": ports,
            "hostname": hostname,
            "dns": dns,
            "dns_search": dns_search,
            "dns_options": dns_options,
            "extra_hosts": extra_hosts,
            "ip": ip,
            "mac": mac,
            "plugin_arguments": plugin_arguments,
        }
        return await restore_container(
            self._services, id, checkpoint, rw=rw, spec_options=spec_options, labels=labels, networking=networking
        )

    async def cleanup_state_directories(self) -> list[str]:
        """Remove directories that programs which were killed have left for containers, and return those's IDs.

        What a container needs, or one that is being made by now, stays, and so does what nerdctl has made.

        Raises:
            FailedPreconditionError: Something is mounted in one.
            OSError: This user may not remove one.
        """
        return await remove_leftover_directories(self._services)

    async def cleanup_fifos(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        older_than: timedelta = timedelta(minutes=1),
        dry_run: bool = False,
    ) -> list[str]:
        """Remove the folders with FIFOs that programs which were killed have left, and return their paths.

        Only folders that `open_fifos` made in this directory for this user, and that no process of this machine has
        open, no task of any namespace of this daemon names, and nobody touched for `older_than`. What an exec has that
        was created and never started is taken for unused.

        Raises:
            RemoteDaemonError: The daemon is on another host.
            PermissionDeniedError: There are shims of other users, so that only root can tell.
            FailedPreconditionError: There is no default directory.
        """
        return await cleanup_fifos(self._services, directory, older_than=older_than, dry_run=dry_run)

    async def run(
        self,
        image_or_ref: Image | str,
        args: Sequence[str] | None = None,
        *,
        input: Input | None = None,  # noqa: A002
        check: bool = True,
        terminal: bool = False,
        capture_limit: int | None = None,
        policy: Policy = "missing",
        registry: Registry | None = None,
        **options: Unpack[ContainerOptions],
    ) -> CompletedProcess:
        """Run a command in a new container to its end, remove the container, and return exit code and output.

        `input` is what the command reads, bytes or an async iterable of them. `capture_limit` bounds what is kept of
        each output, in bytes; the rest is read and dropped. With `terminal` all output is in `stdout`. The
        other options are those of `create_container`.

        Raises:
            ProcessExitError: The exit code is not zero and `check` is True; the error has the output.
        """
        return await run(
            self._services,
            image_or_ref,
            args,
            input=input,
            check=check,
            terminal=terminal,
            capture_limit=capture_limit,
            policy=policy,
            registry=registry,
            **options,
        )

    def open_run(
        self,
        image_or_ref: Image | str,
        args: Sequence[str] | None = None,
        *,
        stdin: bool = False,
        terminal: bool = False,
        policy: Policy = "missing",
        registry: Registry | None = None,
        **options: Unpack[ContainerOptions],
    ) -> AbstractAsyncContextManager[Task]:
        """Lend a started task in a new container; task, container and snapshot are gone afterwards, whatever happens.

        Its output is at `task.stdout` and `task.stderr`, its input, if asked for, at `task.stdin`; with `terminal` all
        output is at `task.stdout`. The other options are those of `create_container`.
        """
        return open_run(
            self._services,
            image_or_ref,
            args,
            stdin=stdin,
            terminal=terminal,
            policy=policy,
            registry=registry,
            **options,
        )
