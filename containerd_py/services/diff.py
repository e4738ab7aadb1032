"""Applying and computing layers, done by the daemon. Knows the Diff service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final

from containerd_py._generated.containerd.services.diff.v1 import ApplyRequest, DiffRequest, DiffStub
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._transport.connection import Rpc
from containerd_py.labels import check_labels
from containerd_py.services.wire import (
    descriptor_from_wire,
    descriptor_to_wire,
    mounts_to_wire,
    required,
    time_to_wire,
)
from containerd_py.types import NO_LABELS, Descriptor, FrozenMap, Mount, Timestamp
from containerd_py.typeurl import TypedValue

_NO_PAYLOADS: Final[Mapping[str, TypedValue]] = FrozenMap()


class DiffService:
    """The Diff service, typed (containerd.services.diff.v1.Diff)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> DiffStub:
        return self._rpc.stub(DiffStub)

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Iterable[Mount],
        *,
        payloads: Mapping[str, TypedValue] = _NO_PAYLOADS,
        sync_fs: bool = False,
    ) -> Descriptor:
        """Extract a layer into mounts and return the descriptor of what was extracted: its digest is the diff ID.

        `payloads` are for stream processors (decryption); `sync_fs` flushes the file system, from containerd 2.0 on.
        Source: Diff.Apply.
        """
        request = ApplyRequest(
            diff=descriptor_to_wire(descriptor),
            mounts=mounts_to_wire(mounts),
            payloads={key: WireAny(type_url=value.type_url, value=value.value) for key, value in payloads.items()},
            sync_fs=sync_fs,
        )
        return descriptor_from_wire(required((await self._stub.apply(request)).applied, "the applied layer"))

    async def compare(
        self,
        lower: Iterable[Mount],
        upper: Iterable[Mount],
        *,
        media_type: str = "",
        reference: str = "",
        labels: Mapping[str, str] = NO_LABELS,
        source_date_epoch: Timestamp | None = None,
    ) -> Descriptor:
        """Write the difference of two mounts as a layer into the content store (Diff.Diff).

        `reference` names the ingest; `source_date_epoch` bounds the times in it, from containerd 1.7 on.
        """
        check_labels(labels)
        request = DiffRequest(
            left=mounts_to_wire(lower),
            right=mounts_to_wire(upper),
            media_type=media_type,
            ref=reference,
            labels=dict(labels),
            source_date_epoch=time_to_wire(source_date_epoch),
        )
        return descriptor_from_wire(required((await self._stub.diff(request)).diff, "the layer"))
