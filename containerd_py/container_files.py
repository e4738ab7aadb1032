"""The files of a container: copied in and out, and what they have become. The part of its handle that is about them."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager

from containerd_py._flows.container_changes import container_changes, container_diff
from containerd_py._flows.copy_files import CopiedOut, Owner, copy_from_local, copy_in, copy_out, copy_to_local
from containerd_py.archives.sources import ArchiveSource
from containerd_py.oci.media_type_families import Compression
from containerd_py.services.bundle import Services
from containerd_py.trees.changes import FileChange
from containerd_py.types import Descriptor


class ContainerFiles:
    """What `Container` says of its files."""

    def __init__(self, services: Services, id: str) -> None:  # noqa: A002
        self._services = services
        self._id = id

    def copy_out(
        self, path: str, *, follow_link: bool = False, owner: Owner = None, sparse: bool = False
    ) -> AbstractAsyncContextManager[CopiedOut]:
        """Lend a tar archive of a file or directory in the container, running or not, to iterate over as bytes.

        The first member has the path's last name; a path that ends with "/." stands for the directory's content. A link
        is copied as such, with `follow_link` what it leads to. Volumes and what else is mounted from the host are in
        it; /proc and the like are left empty. `owner` replaces everybody's; `sparse` writes files with holes as GNU
        tar's sparse files, which not every tar can read.

        Raises:
            NotFoundError: There is no such path, or no such container.
            PermissionDeniedError: This user may not read it; root on the daemon's host may.
            FailedPreconditionError: A file got shorter while it was read, or the daemon is on another machine.
        """
        return copy_out(self._services, self._id, path, follow_link=follow_link, owner=owner, sparse=sparse)

    async def copy_in(self, path: str, source: ArchiveSource, *, owner: Owner = None) -> None:
        """Unpack a tar archive into a directory of the container, running or not.

        `source` is a file's path, bytes, or an asynchronous iterable of them, such as what `copy_out` lends. Files get
        the owners the archive says, or `owner`, as the container numbers them. Each file is there once it is whole;
        what was unpacked before a failure or a cancellation stays. Volumes are written to, and so is what else is
        mounted from the host, unless it is read-only. A container that does not run must not be started meanwhile.

        Raises:
            NotFoundError: There is no such directory, or no such container.
            ArchiveError: The archive is damaged or hostile.
            FailedPreconditionError: A file is in a directory's place or the other way round, or the place is read-only.
            ResourceExhaustedError: The disk is full.
        """
        await copy_in(self._services, self._id, path, source, owner=owner)

    async def copy_to_local(
        self, path: str, destination: str | os.PathLike[str], *, follow_link: bool = False, owner: Owner = None
    ) -> None:
        """Copy a file or directory of the container to this machine, by the rules of `docker cp`.

        Into `destination` if that is a directory, else as it; the directory above it must be there. A path that ends
        with "/." stands for the directory's content. Modes, times, links and holes are kept. Files belong to this user
        and gain nobody any rights; with "source" as the owner they keep theirs, and set-ID bits, capabilities and
        devices with them.

        Raises:
            NotFoundError: There is no such path, or no directory to copy to.
            FailedPreconditionError: A file is in a directory's place or the other way round.
            PermissionDeniedError: This user may not read the one or write the other.
        """
        await copy_to_local(self._services, self._id, path, destination, follow_link=follow_link, owner=owner)

    async def copy_from_local(
        self, source: str | os.PathLike[str], path: str, *, follow_link: bool = False, owner: Owner = None
    ) -> None:
        """Copy a file or directory of this machine into the container, by the rules of `docker cp`.

        As `copy_to_local`, the other way. Files belong to the container's root, to `owner`, or, with "source", to whom
        they belong here.

        Raises:
            NotFoundError: There is no such file, or no directory to copy to.
            FailedPreconditionError: A file is in a directory's place or the other way round, or the place is read-only.
            PermissionDeniedError: This user may not read the one or write the other.
        """
        await copy_from_local(self._services, self._id, source, path, follow_link=follow_link, owner=owner)

    async def changes(self) -> list[FileChange]:
        """Compare its files with its image's, as `docker diff` does: what was added, modified or deleted, by path.

        A directory is modified where anything in it is; of what was deleted only the topmost is there. What is mounted
        in it does not count. With overlayfs the image need not be read.

        Raises:
            PermissionDeniedError: This user may not read its files; root on the daemon's host may.
            RemoteDaemonError: The daemon is on another host.
            FailedPreconditionError: It has no snapshot, or one that is not on this machine.
        """
        return await container_changes(self._services, self._id)

    async def diff(self, *, compression: Compression = "gzip") -> Descriptor:
        """Have the daemon store what its files have more than its image's as a layer, and return that (Diff.Diff).

        The layer is collected when the lease is gone, unless something names it by then: load the container from a
        client of `hold_lease`. `Client.commit` makes an image of it. Owners are the host's: where the container has a
        user namespace they are the mapped users.

        Raises:
            FailedPreconditionError: There is no lease, or it has no snapshot.
        """
        return await container_diff(self._services, self._id, compression=compression)
