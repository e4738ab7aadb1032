"""Making sure that an image is there, whole and unpacked: a record alone proves nothing.

A pull for one platform leaves an index whose other manifests are missing, content may have been collected or deleted,
and snapshots may be those of another snapshotter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from containerd_py._flows.content_labels import snapshot_ref_label
from containerd_py._flows.defaults import chosen_platform, chosen_snapshotter
from containerd_py._flows.image_content import list_content, read_image
from containerd_py._flows.pull import Via, pull
from containerd_py._flows.unpack import is_unpacked, unpack_image
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.image import Image
from containerd_py.oci.image_spec import chain_ids
from containerd_py.references import Reference
from containerd_py.remotes.registry import Registry
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor, Platform

Policy = Literal["missing", "always", "never"]
POLICIES: Final = get_args(Policy)


async def ensure_image(
    services: Services,
    ref: str,
    *,
    policy: Policy = "missing",
    platform: Platform | str | None = None,
    all_platforms: bool = False,
    unpack: bool = True,
    snapshotter: str | None = None,
    labels: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    via: Via = "auto",
) -> Image:
    """Return an image that is whole and unpacked, pulled if need be; the arguments are those of `pull`.

    `policy` says when to ask the registry: "always"; if the image is "missing" here, or incomplete; "never". An image
    that is here and not unpacked is unpacked, whatever the policy.

    Raises:
        NotFoundError: It is not here, or not whole, and the policy is "never"; or it has nothing for the platform.
        RegistryError: The registry refused, failed or misbehaved.
    """
    if policy not in POLICIES:
        raise InvalidArgumentError(f"policy={policy!r}: say one of {', '.join(POLICIES)}")
    name = str(Reference.parse(ref))
    if policy != "always":
        snapshots = await chosen_snapshotter(services, snapshotter) if unpack and not all_platforms else None
        try:
            return await _local_image(services, name, platform, snapshots, all_platforms=all_platforms)
        except NotFoundError as error:
            if policy == "never":
                raise NotFoundError(f"{name} is not here, and policy 'never' forbids to pull it: {error}") from error
    return await pull(
        services,
        ref,
        platform=platform,
        all_platforms=all_platforms,
        unpack=unpack,
        snapshotter=snapshotter,
        labels=labels,
        registry=registry,
        via=via,
    )


async def _local_image(
    services: Services, name: str, platform: Platform | str | None, snapshotter: str | None, *, all_platforms: bool
) -> Image:
    """Return the image if everything it needs is here, unpacked for the snapshotter unless that is None.

    Raises:
        NotFoundError: Something is missing.
    """
    target = (await services.images.get(name)).target
    chosen = await chosen_platform(services, platform)
    if all_platforms:
        await _check_presence(services, await list_content(services, target))
    elif snapshotter is None:
        await _check_presence(services, (await read_image(services, target, chosen)).blobs)
    elif not await _is_unpacked_for_good(services, target, chosen, snapshotter):
        await unpack_image(services, target, chosen, snapshotter)
    return Image(services, name=name, target=target, platform=chosen)


async def _is_unpacked_for_good(services: Services, target: Descriptor, platform: Platform, snapshotter: str) -> bool:
    """Tell whether the snapshots are there and the image keeps them from the garbage collection."""
    image = await read_image(services, target, platform)
    chain_id = ["", *chain_ids(image.config.diff_ids)][-1]
    kept = (await services.content.info(image.manifest.config.digest)).labels.get(snapshot_ref_label(snapshotter), "")
    return kept == chain_id and await is_unpacked(services, chain_id, snapshotter)


async def _check_presence(services: Services, blobs: Iterable[Descriptor]) -> None:
    for digest in dict.fromkeys(blob.digest for blob in blobs):
        await services.content.info(digest)
