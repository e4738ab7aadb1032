"""Type URLs: how containerd names what is inside an `Any`. Knows names and JSON; knows no protobuf class.

containerd names protobuf messages by their bare full name (no `type.googleapis.com/`) and JSON documents by a name
under `types.containerd.io/`. Source: containerd, typeurl package.
"""

from __future__ import annotations

from typing import Final

import attrs

_GOOGLE_PREFIX: Final = "type.googleapis.com/"
RUNTIME_SPEC: Final = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
RUNTIME_PROCESS: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RUNTIME_RESOURCES: Final = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
RUNC_OPTIONS: Final = "containerd.runc.v1.Options"
RUNC_CHECKPOINT_OPTIONS: Final = "containerd.runc.v1.CheckpointOptions"
SHIM_OPTIONS: Final = "runtimeoptions.v1.Options"


@attrs.frozen(kw_only=True)
class TypedValue:
    """A value containerd keeps for somebody without looking into it: a name and bytes (google.protobuf.Any)."""

    type_url: str
    value: bytes = attrs.field(default=b"", repr=False)

    @property
    def name(self) -> str:
        """The name without the prefix that some writers put before protobuf names."""
        return self.type_url.removeprefix(_GOOGLE_PREFIX)
