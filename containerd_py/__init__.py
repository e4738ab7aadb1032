"""Drive containerd from asyncio.

Pull an image with progress, make sure it is there and unpacked, create a container on a fresh snapshot, run its task
with real I/O, and leave nothing behind::

    async with connect() as client:
        completed = await client.run("docker.io/library/alpine:3.20", ["echo", "hello"])
        print(completed.stdout)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from containerd_py._exports import HOMES

if TYPE_CHECKING:  # what each name is; `python -m codegen` writes down for the interpreter where to find it
    from containerd_py._calls.networks import Networks
    from containerd_py._calls.volumes import Volumes
    from containerd_py._flows.apparmor import is_apparmor_enabled, load_apparmor_profile, load_default_apparmor_profile
    from containerd_py._flows.cdi import find_cdi_devices, load_cdi_registry
    from containerd_py._flows.check_image import ImageCheck
    from containerd_py._flows.container_logs import LogLine
    from containerd_py._flows.container_networks import ContainerNetwork
    from containerd_py._flows.copy_files import CopiedOut, FileStatus
    from containerd_py._flows.export_images import Export
    from containerd_py._flows.health import Health, Probe
    from containerd_py._flows.image_details import HistoryEntry, ImageDetails
    from containerd_py._flows.image_layers import DirectoryLayer, LayerSource, RunLayer, TarLayer
    from containerd_py._flows.import_images import Import
    from containerd_py._flows.leasing import LEASE_LIFETIME
    from containerd_py._flows.parallel import for_each
    from containerd_py._flows.pods import Pod, PodContainer
    from containerd_py._flows.process_table import TopEntry
    from containerd_py._flows.prune_images import PruneReport
    from containerd_py._flows.pull import Pull
    from containerd_py._flows.push import Push
    from containerd_py._flows.reclaim_networks import ReclaimReport
    from containerd_py._flows.results import CompletedProcess
    from containerd_py._flows.snapshotter_care import CleanupReport, SnapshotterInfo, UnusedSnapshot
    from containerd_py._flows.stats import Stats, StatsStream
    from containerd_py._flows.terminal_session import DETACHED, Detached, TerminalSession, attached_terminal
    from containerd_py._flows.volume_mounts import VolumeMount
    from containerd_py._flows.volume_store import Volume
    from containerd_py.archives.limits import ArchiveLimits
    from containerd_py.cio.config import NULL_IO, IOConfig, log_binary, log_file, log_uri
    from containerd_py.cio.fifos import FifoIO, attach_fifos, open_fifos
    from containerd_py.cio.inherit import open_inherited
    from containerd_py.cio.json_log import json_file_log
    from containerd_py.cleanup import Cleanup
    from containerd_py.client import Client, connect
    from containerd_py.cni.ports import PortMapping
    from containerd_py.cni.results import CNIAddress, CNIDns, CNIInterface, CNIResult, CNIRoute
    from containerd_py.cni.settings import NetworkSettings
    from containerd_py.container import Container
    from containerd_py.daemon import Daemon, open_daemon
    from containerd_py.errors import (
        AbortedError,
        AlreadyExistsError,
        AppArmorError,
        ArchiveError,
        CancelledByDaemonError,
        CheckpointError,
        CleanupError,
        ClientClosedError,
        CNIConfigError,
        CNIDecodeError,
        CNIEnvironmentError,
        CNIError,
        CNIInputOutputError,
        CNINotReadyError,
        CNIPluginNotFoundError,
        CNIPluginTimeoutError,
        CNIProtocolError,
        CNITryAgainError,
        CNIUnknownContainerError,
        CNIUnsupportedFieldError,
        CNIVersionError,
        ConflictError,
        ConnectionLostError,
        ContainerdError,
        CriuNotFoundError,
        DaemonConnectError,
        DaemonNotListeningError,
        DaemonNotRespondingError,
        DaemonStartError,
        DataLossError,
        DeadlineExceededError,
        DigestMismatchError,
        FailedPreconditionError,
        InternalError,
        InvalidArgumentError,
        ManifestNotSupportedError,
        ManifestTooLargeError,
        MissingExtraError,
        NotFoundError,
        NotModifiedError,
        NotSupportedError,
        OutOfRangeError,
        PermissionDeniedError,
        ProcessExitError,
        ProtocolError,
        RegistryAuthenticationError,
        RegistryConnectError,
        RegistryDisconnectedError,
        RegistryError,
        RegistryNotFoundError,
        RegistryPermissionError,
        RegistryRateLimitedError,
        RegistryStalledError,
        RegistryTLSError,
        RegistryUnavailableError,
        RemoteDaemonError,
        ResourceExhaustedError,
        SizeMismatchError,
        SocketNotFoundError,
        SocketPermissionError,
        StopTimeoutError,
        TaskLostError,
        UnauthenticatedError,
        UnavailableError,
        UnhealthyError,
        UnimplementedError,
        UnknownError,
        UnpackError,
    )
    from containerd_py.filters import Filter, check_filter, where
    from containerd_py.image import Image, ImageUsage
    from containerd_py.lifetimes import Deletable, deleting
    from containerd_py.network import Network, NetworkInfo
    from containerd_py.oci.apparmor import default_apparmor_profile
    from containerd_py.oci.cdi_registry import CDIRegistry
    from containerd_py.oci.config_changes import ConfigChanges
    from containerd_py.oci.health_check import HealthCheck
    from containerd_py.oci.image_spec import History, ImageConfig, Manifest
    from containerd_py.oci.user_namespaces import UserNamespace
    from containerd_py.pool import ClientPool
    from containerd_py.process import Process
    from containerd_py.progress import Progress
    from containerd_py.references import Reference
    from containerd_py.remotes.credentials import Credential
    from containerd_py.remotes.docker_config import DockerConfig
    from containerd_py.remotes.limits import RegistryLimits
    from containerd_py.remotes.registry import Registry
    from containerd_py.remotes.repository import Repository
    from containerd_py.remotes.secret import Secret
    from containerd_py.services.bundle import Services
    from containerd_py.services.containers import ContainerRecord, Runtime
    from containerd_py.services.content import ContentInfo, IngestStatus
    from containerd_py.services.event_types import (
        ContainerCreate,
        ContainerDelete,
        ContainerUpdate,
        ContentCreate,
        ContentDelete,
        Envelope,
        Event,
        EventsGap,
        ImageCreate,
        ImageDelete,
        ImageUpdate,
        NamespaceCreate,
        NamespaceDelete,
        NamespaceUpdate,
        SandboxCreate,
        SandboxExit,
        SandboxStart,
        SnapshotCommit,
        SnapshotPrepare,
        SnapshotRemove,
        TaskCheckpointed,
        TaskCreate,
        TaskDelete,
        TaskExecAdded,
        TaskExecStarted,
        TaskExit,
        TaskIO,
        TaskOOM,
        TaskPaused,
        TaskResumed,
        TaskStart,
    )
    from containerd_py.services.health import HealthStatus
    from containerd_py.services.images import ImageRecord
    from containerd_py.services.introspection import Plugin, PluginInfo, ServerInfo
    from containerd_py.services.leases import Lease, LeaseResource
    from containerd_py.services.metrics import CpuMetrics, IoMetrics, MemoryMetrics, Metrics, PidsMetrics
    from containerd_py.services.namespaces import Namespace
    from containerd_py.services.runc import RuncOptions, ShimOptions
    from containerd_py.services.snapshots import SnapshotInfo, SnapshotKind, Usage
    from containerd_py.services.tasks import ExitStatus, ProcessInfo, ProcessStatus, TaskState
    from containerd_py.services.version import Version
    from containerd_py.task import Task
    from containerd_py.trees.changes import ChangeKind, FileChange
    from containerd_py.types import Descriptor, Mount, Platform, Timestamp
    from containerd_py.typeurl import TypedValue

__all__ = [
    "DETACHED",
    "LEASE_LIFETIME",
    "NULL_IO",
    "AbortedError",
    "AlreadyExistsError",
    "AppArmorError",
    "ArchiveError",
    "ArchiveLimits",
    "CDIRegistry",
    "CNIAddress",
    "CNIConfigError",
    "CNIDecodeError",
    "CNIDns",
    "CNIEnvironmentError",
    "CNIError",
    "CNIInputOutputError",
    "CNIInterface",
    "CNINotReadyError",
    "CNIPluginNotFoundError",
    "CNIPluginTimeoutError",
    "CNIProtocolError",
    "CNIResult",
    "CNIRoute",
    "CNITryAgainError",
    "CNIUnknownContainerError",
    "CNIUnsupportedFieldError",
    "CNIVersionError",
    "CancelledByDaemonError",
    "ChangeKind",
    "CheckpointError",
    "Cleanup",
    "CleanupError",
    "CleanupReport",
    "Client",
    "ClientClosedError",
    "ClientPool",
    "CompletedProcess",
    "ConfigChanges",
    "ConflictError",
    "ConnectionLostError",
    "Container",
    "ContainerCreate",
    "ContainerDelete",
    "ContainerNetwork",
    "ContainerRecord",
    "ContainerUpdate",
    "ContainerdError",
    "ContentCreate",
    "ContentDelete",
    "ContentInfo",
    "CopiedOut",
    "CpuMetrics",
    "Credential",
    "CriuNotFoundError",
    "Daemon",
    "DaemonConnectError",
    "DaemonNotListeningError",
    "DaemonNotRespondingError",
    "DaemonStartError",
    "DataLossError",
    "DeadlineExceededError",
    "Deletable",
    "Descriptor",
    "Detached",
    "DigestMismatchError",
    "DirectoryLayer",
    "DockerConfig",
    "Envelope",
    "Event",
    "EventsGap",
    "ExitStatus",
    "Export",
    "FailedPreconditionError",
    "FifoIO",
    "FileChange",
    "FileStatus",
    "Filter",
    "Health",
    "HealthCheck",
    "HealthStatus",
    "History",
    "HistoryEntry",
    "IOConfig",
    "Image",
    "ImageCheck",
    "ImageConfig",
    "ImageCreate",
    "ImageDelete",
    "ImageDetails",
    "ImageRecord",
    "ImageUpdate",
    "ImageUsage",
    "Import",
    "IngestStatus",
    "InternalError",
    "InvalidArgumentError",
    "IoMetrics",
    "LayerSource",
    "Lease",
    "LeaseResource",
    "LogLine",
    "Manifest",
    "ManifestNotSupportedError",
    "ManifestTooLargeError",
    "MemoryMetrics",
    "Metrics",
    "MissingExtraError",
    "Mount",
    "Namespace",
    "NamespaceCreate",
    "NamespaceDelete",
    "NamespaceUpdate",
    "Network",
    "NetworkInfo",
    "NetworkSettings",
    "Networks",
    "NotFoundError",
    "NotModifiedError",
    "NotSupportedError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "PidsMetrics",
    "Platform",
    "Plugin",
    "PluginInfo",
    "Pod",
    "PodContainer",
    "PortMapping",
    "Probe",
    "Process",
    "ProcessExitError",
    "ProcessInfo",
    "ProcessStatus",
    "Progress",
    "ProtocolError",
    "PruneReport",
    "Pull",
    "Push",
    "ReclaimReport",
    "Reference",
    "Registry",
    "RegistryAuthenticationError",
    "RegistryConnectError",
    "RegistryDisconnectedError",
    "RegistryError",
    "RegistryLimits",
    "RegistryNotFoundError",
    "RegistryPermissionError",
    "RegistryRateLimitedError",
    "RegistryStalledError",
    "RegistryTLSError",
    "RegistryUnavailableError",
    "RemoteDaemonError",
    "Repository",
    "ResourceExhaustedError",
    "RunLayer",
    "RuncOptions",
    "Runtime",
    "SandboxCreate",
    "SandboxExit",
    "SandboxStart",
    "Secret",
    "ServerInfo",
    "Services",
    "ShimOptions",
    "SizeMismatchError",
    "SnapshotCommit",
    "SnapshotInfo",
    "SnapshotKind",
    "SnapshotPrepare",
    "SnapshotRemove",
    "SnapshotterInfo",
    "SocketNotFoundError",
    "SocketPermissionError",
    "Stats",
    "StatsStream",
    "StopTimeoutError",
    "TarLayer",
    "Task",
    "TaskCheckpointed",
    "TaskCreate",
    "TaskDelete",
    "TaskExecAdded",
    "TaskExecStarted",
    "TaskExit",
    "TaskIO",
    "TaskLostError",
    "TaskOOM",
    "TaskPaused",
    "TaskResumed",
    "TaskStart",
    "TaskState",
    "TerminalSession",
    "Timestamp",
    "TopEntry",
    "TypedValue",
    "UnauthenticatedError",
    "UnavailableError",
    "UnhealthyError",
    "UnimplementedError",
    "UnknownError",
    "UnpackError",
    "UnusedSnapshot",
    "Usage",
    "UserNamespace",
    "Version",
    "Volume",
    "VolumeMount",
    "Volumes",
    "attach_fifos",
    "attached_terminal",
    "check_filter",
    "connect",
    "default_apparmor_profile",
    "deleting",
    "find_cdi_devices",
    "for_each",
    "is_apparmor_enabled",
    "json_file_log",
    "load_apparmor_profile",
    "load_cdi_registry",
    "load_default_apparmor_profile",
    "log_binary",
    "log_file",
    "log_uri",
    "open_daemon",
    "open_fifos",
    "open_inherited",
    "where",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import a public name when it is asked for: the whole package takes several times as long as one needs."""
        if name not in HOMES:
            hint = ": run `python -m codegen`" if name in __all__ else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        found = getattr(import_module(HOMES[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
