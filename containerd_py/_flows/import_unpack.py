"""Unpacking what an import has brought. Knows images; knows not where they come from."""

from __future__ import annotations

from containerd_py import platforms
from containerd_py._flows.content_labels import ingest_ref
from containerd_py._flows.image_content import ImageContent, find_manifest, read_config
from containerd_py._flows.import_options import ImportPlan
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.unpack import UnpackHooks, plan_layers, unpack_layers
from containerd_py.errors import NotFoundError
from containerd_py.oci.media_types import is_config
from containerd_py.progress import Progress
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor


async def unpack_imported(leased: Services, target: Descriptor, plan: ImportPlan, board: ProgressBoard) -> None:
    """Unpack an image as the plan says; an artifact has nothing to unpack, nor has an image for other platforms only.

    Raises:
        NotFoundError: Content is missing here.
        UnpackError: A layer is damaged.
    """
    image = await _to_unpack(leased, target, plan)
    if image is None or plan.snapshotter is None:
        return
    parent = ingest_ref(image.found.descriptor)

    def report(event: str, layer: Descriptor) -> None:
        board.report(
            Progress(
                event=event,
                name=ingest_ref(layer),
                parents=(parent,),
                progress=layer.size if event == "extracted" else 0,
                total=layer.size,
                descriptor=layer,
            )
        )

    hooks = UnpackHooks(report=report)
    await unpack_layers(leased, plan.snapshotter, plan_layers(image), image.manifest.config, hooks=hooks)


async def _to_unpack(leased: Services, target: Descriptor, plan: ImportPlan) -> ImageContent | None:
    if plan.snapshotter is None or not platforms.only(plan.platform).matches(target.platform):
        return None
    try:
        found = await find_manifest(leased, target, plan.platform)
    except NotFoundError:
        if not plan.wish.all_platforms:
            raise
        return None
    if not is_config(found.manifest.config.media_type):
        return None
    return ImageContent(found=found, config=await read_config(leased, found.manifest.config))
