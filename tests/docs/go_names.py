"""Writes `docs/reference/go-client.md`, the Go client's options here: `python -m tests.docs.go_names`.

The table is of containerd v2.1: package oci, the contributed options for seccomp, AppArmor and NVIDIA, CDI, and every
`With…` of package client. Where nothing here answers to a name it says why.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any, Final, get_type_hints

import attrs

import containerd_py
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "reference" / "go-client.md"
INTRODUCTION: Final = """\
# The Go client's options

What each option of containerd's Go client (v2.1) is in this package. Spec options are in
`containerd_py.oci.spec_options`, other names in `containerd_py` unless a module is named; `call(option=)` is an
argument by keyword. This page is written by `python -m tests.docs.go_names` from the table that the tests check.
"""

# One option a line: its name, a colon, names here; a name is an option of `oci.spec_options`, or dotted from a public
# name or a module, with an argument in parentheses where it is one. "-" and a reason where there is none.
OCI: Final = """
WithDefaultSpec: oci.default_spec.default_spec
WithDefaultSpecForPlatform: oci.default_spec.default_spec
WithSpecFromBytes: with_spec_from_bytes
WithSpecFromFile: with_spec_from_bytes
Compose: compose
WithAnnotations: with_annotations
WithEnv: with_env, Client.create_container(env)
WithEnvFile: with_env_file
WithDefaultPathEnv: with_default_path_env
WithProcessArgs: with_process_args, Client.create_container(args)
WithProcessCommandLine: with_process_command_line
WithProcessCwd: with_process_cwd, Client.create_container(cwd)
WithTTY: with_tty, Client.create_container(terminal)
WithTTYSize: with_tty_size
WithNewPrivileges: with_new_privileges
WithNoNewPrivileges: with_no_new_privileges
WithRlimit: with_rlimit
WithUmask: with_umask
WithImageConfig: with_image_config, Client.create_container(image)
WithImageConfigArgs: with_image_config, Client.create_container(args)
WithUser: with_user, Client.create_container(user)
WithUIDGID: with_user_ids
WithUserID: with_user_id, Client.create_container(user)
WithUsername: with_username, Client.create_container(user)
WithAdditionalGIDs: with_user, Client.create_container(user)
WithAppendAdditionalGroups: with_appended_groups, Client.create_container(groups)
UserFromPath: oci.users.resolve_user
GIDFromPath: oci.users.resolve_groups
WithCapabilities: with_capabilities
WithAddedCapabilities: with_added_capabilities
WithDroppedCapabilities: with_dropped_capabilities
WithAmbientCapabilities: with_ambient_capabilities
WithAllCurrentCapabilities: oci.host.current_capabilities, with_capabilities
WithAllKnownCapabilities: with_all_known_capabilities
WithRootFSPath: with_rootfs_path
WithRootFSReadonly: with_rootfs_readonly, Client.create_container(read_only)
WithMounts: with_mounts, Client.create_container(mounts)
WithoutMounts: without_mounts
WithoutRunMount: without_run_mount
WithDevShmSize: with_dev_shm_size
WithHostHostsFile: with_host_hosts_file
WithHostResolvconf: with_host_resolv_conf
WithHostLocaltime: with_host_localtime
WithMaskedPaths: with_masked_paths
WithReadonlyPaths: with_readonly_paths
WithPrivileged: with_privileged
WithWriteableSysfs: with_writable_sysfs
WithWriteableCgroupfs: with_writable_cgroupfs
WithSelinuxLabel: with_selinux_label
WithApparmorProfile: with_apparmor_profile
WithSeccompUnconfined: with_seccomp_unconfined
WithHostname: with_hostname, Client.create_container(hostname)
WithDomainname: with_domainname
WithHostNamespace: with_host_namespace, Client.create_container(namespaces)
WithLinuxNamespace: with_linux_namespace, Client.create_container(namespaces)
WithUserNamespace: with_user_namespace, Client.create_container(user_namespace)
WithCgroup: with_cgroup
WithNamespacedCgroup: with_namespaced_cgroup
WithParentCgroupDevices: with_parent_cgroup_devices
WithAllDevicesAllowed: with_all_devices_allowed
WithDefaultUnixDevices: with_default_devices
WithLinuxDevices: with_linux_devices
WithLinuxDevice: oci.host.device_at, with_devices, Client.create_container(devices)
WithLinuxDeviceFollowSymlinks: oci.host.device_at(follow_links), with_devices, Client.create_container(devices)
WithHostDevices: oci.host.devices_below, with_linux_devices
WithDevices: oci.host.devices_below, with_devices, Client.create_container(devices)
HostDevices: oci.host.devices_below
DeviceFromPath: oci.host.device_at
WithMemoryLimit: with_memory_limit
WithMemorySwap: with_memory_swap
WithPidsLimit: with_pids_limit
WithBlockIO: with_block_io
WithCPUShares: with_cpu_shares
WithCPUs: with_cpus
WithCPUsMems: with_cpus_mems
WithCPUCFS: with_cpu_cfs
WithCPUBurst: with_cpu_burst
WithCPURT: with_cpu_rt
WithRdt: with_rdt
WithWindowsHyperV: with_windows_hyperv
WithWindowsDevice: with_windows_device
WithWindowsCPUCount: with_windows_cpu_count
WithWindowsCPUShares: with_windows_cpu_shares
WithWindowsCPUMaximum: with_windows_cpu_maximum
WithWindowsIgnoreFlushesDuringBoot: with_windows_ignore_flushes_during_boot
WithWindowNetworksAllowUnqualifiedDNSQuery: with_windows_networks_allow_unqualified_dns_query
WithWindowsNetworkNamespace: with_windows_network_namespace
GenerateSpec: Client.create_container, oci.default_spec.default_spec
GenerateSpecWithPlatform: oci.default_spec.default_spec
ApplyOpts: compose
ReadSpec: oci.spec_json.spec_from_json
"""
CONTRIBUTED: Final = """
cdi.WithCDIDevices: find_cdi_devices, Client.create_container(cdi_devices)
seccomp.WithProfile: with_seccomp
seccomp.WithDefaultProfile: with_default_seccomp
seccomp.DefaultProfile: oci.seccomp.default_seccomp_profile
apparmor.WithProfile: with_apparmor_profile
apparmor.WithDefaultProfile: load_default_apparmor_profile
apparmor.LoadDefaultProfile: load_apparmor_profile
apparmor.DumpDefaultProfile: default_apparmor_profile
nvidia.WithGPUs: find_cdi_devices
nvidia.WithDevices: find_cdi_devices
nvidia.WithDeviceUUIDs: find_cdi_devices
nvidia.WithAllDevices: find_cdi_devices
nvidia.WithAllCapabilities: find_cdi_devices
nvidia.WithCapabilities: find_cdi_devices
nvidia.WithRequiredCUDAVersion: - what the driver offers is in its CDI specification
nvidia.WithOCIHookPath: - CDI has hooks of its own
nvidia.WithLookupOCIHookPath: - CDI has hooks of its own
nvidia.WithNoCgroups: - CDI says which devices may be used
"""
CONTAINERS: Final = """
WithRuntime: Client.create_container(runtime)
WithSandbox: Client.create_container(sandbox)
WithImage: Client.create_container(image)
WithImageName: ContainerRecord.image
WithContainerLabels: Client.create_container(labels)
WithAdditionalContainerLabels: Client.create_container(labels), Container.set_labels
WithImageConfigLabels: Client.create_container(image)
WithImageStopSignal: Client.create_container(image)
WithSnapshotter: Client.create_container(snapshotter)
WithSnapshot: ContainerRecord.snapshot_key
WithSnapshotCleanup: Container.delete(snapshot)
WithNewSnapshot: Client.create_container(image)
WithNewSnapshotView: services.snapshots.SnapshotsService.view, ContainerRecord.snapshot_key
WithContainerExtension: Client.create_container(extensions)
WithNewSpec: Client.create_container(spec_options)
WithSpec: with_spec, Client.create_container(spec_options)
WithoutRefreshedMetadata: - handles keep nothing that could be old: keep the record
WithRemappedSnapshot: Client.create_container(user_namespace)
WithUserNSRemappedSnapshot: Client.create_container(user_namespace)
WithRemappedSnapshotView: Client.create_container(user_namespace)
WithUserNSRemappedSnapshotView: Client.create_container(user_namespace)
WithRemapperLabels: Client.create_container(user_namespace)
WithUserNSRemapperLabels: Client.create_container(user_namespace)
WithCheckpointImage: Container.checkpoint(image)
WithCheckpointTask: Container.checkpoint(task)
WithCheckpointRuntime: Container.checkpoint(runtime)
WithCheckpointRW: Container.checkpoint(rw)
WithCheckpointTaskExit: Container.checkpoint(exit)
GetIndexByMediaType: oci.image_spec.parse_index
WithRestoreImage: Client.restore_container
WithRestoreRuntime: Client.restore_container
WithRestoreSpec: Client.restore_container(spec_options)
WithRestoreRW: Client.restore_container(rw)
WithSandboxRuntime: services.sandboxes.SandboxRecord.runtime
WithSandboxSpec: services.sandboxes.SandboxRecord.spec
WithSandboxExtension: services.sandboxes.SandboxRecord.extensions
WithSandboxLabels: services.sandboxes.SandboxRecord.labels
"""
TASKS: Final = """
WithRootFS: Container.create_task(rootfs)
WithRuntimePath: Container.create_task(runtime_path)
WithTaskAPIEndpoint: RuncOptions(task_api_address), RuncOptions(task_api_version)
WithTaskCheckpoint: Container.create_task(checkpoint)
WithCheckpointName: Task.checkpoint(ref)
WithCheckpointImagePath: Task.checkpoint_to(image_path)
WithRestoreImagePath: Container.create_task(checkpoint), RuncOptions(criu_image_path)
WithRestoreWorkPath: RuncOptions(criu_work_path)
WithProcessKill: Task.delete(force), Process.delete(force)
WithKillAll: Task.kill(all)
WithKillExecID: Process.kill
WithResources: Task.update(resources)
WithAnnotations: Task.update(annotations)
WithNoNewKeyring: RuncOptions(no_new_keyring)
WithNoPivotRoot: RuncOptions(no_pivot_root)
WithShimCgroup: RuncOptions(shim_cgroup)
WithUIDOwner: RuncOptions(io_uid)
WithGIDOwner: RuncOptions(io_gid)
WithStdinCloser: Process.close_stdin
GetStopSignal: Task.stop(signal)
GetOCIStopSignal: Task.stop(signal)
NewExitStatus: ExitStatus
"""
IMAGES: Final = """
WithPlatform: Client.pull(platform), Client.push(platform)
WithPlatformMatcher: Client.pull(platform), platforms.Matcher
WithPullUnpack: Client.pull(unpack)
WithUnpackOpts: - what they would set is decided here: duplicates are suppressed, platforms checked
WithPullSnapshotter: Client.pull(snapshotter)
WithPullLabel: Client.pull(labels)
WithPullLabels: Client.pull(labels)
WithChildLabelMap: - content is kept from the garbage collection by containerd's own labels
WithResolver: Client.pull(registry)
WithImageHandler: - Client.open_pull tells what happens; nothing is hooked into it
WithImageHandlerWrapper: - Client.open_pull tells what happens; nothing is hooked into it
WithDownloadLimiter: - layers are fetched as many at once as containerd does
WithMaxConcurrentDownloads: RegistryLimits(layer_parallelism)
WithConcurrentLayerFetchBuffer: RegistryLimits(layer_chunk_size)
WithMaxConcurrentUploadedLayers: - layers are pushed as many at once as containerd does
WithAllMetadata: Client.pull(all_platforms)
WithUsageManifestLimit: Image.usage
WithSnapshotUsage: Image.usage(snapshotter)
WithManifestUsage: Image.usage
NewImage: Client.load_image
NewImageWithPlatform: Client.load_image
WithSnapshotterPlatformCheck: - an image that does not suit is refused with the platforms it has
WithUnpackDuplicationSuppressor: - unpacking what is there, or is being unpacked, is no work
WithUnpackApplyOpts: services.diff.DiffService.apply(payloads)
WithImageRefTranslator: Client.import_images(translate_name), Client.import_images(base_name)
WithImageLabels: Client.import_images(labels)
WithDigestRef: Client.import_images(digest_names)
WithSkipDigestRef: Client.import_images(digest_names)
WithIndexName: Client.import_images(index_name)
WithAllPlatforms: Client.import_images(all_platforms)
WithImportPlatform: Client.import_images(platform)
WithImportCompression: Client.import_images(compress_layers)
WithDiscardUnpackedLayers: Client.import_images(discard_unpacked_layers)
WithSkipMissing: Client.import_images(skip_missing)
WithInstallLibs: - binaries are not installed on hosts from images
WithInstallReplace: - binaries are not installed on hosts from images
WithInstallPath: - binaries are not installed on hosts from images
"""
CLIENT: Final = """
WithDefaultNamespace: connect(namespace)
WithDefaultRuntime: Client.create_container(runtime), services.namespaces.NamespacesService.update
WithDefaultPlatform: Client.pull(platform)
WithDialOpts: - there is one transport, whose options are measured
WithExtraDialOpts: - there is one transport, whose options are measured
WithCallOpts: - there is one transport, whose options are measured
WithTimeout: - time limits are the callers': anyio.fail_after
NewWithConn: Client.in_namespace
WithServices: - services are typed classes over one connection: Services.stub is the way around them
WithContentStore: services.content.ContentService
WithImageClient: services.images.ImagesService
WithImageStore: services.images.ImagesService
WithSnapshotters: services.snapshots.SnapshotsService
WithContainerClient: services.containers.ContainersService
WithContainerStore: services.containers.ContainersService
WithTaskClient: services.tasks.TasksService
WithDiffClient: services.diff.DiffService
WithDiffService: services.diff.DiffService
WithEventService: services.events.EventsService
WithNamespaceClient: services.namespaces.NamespacesService
WithNamespaceService: services.namespaces.NamespacesService
WithLeasesService: services.leases.LeasesService
WithIntrospectionService: services.introspection.IntrospectionService
WithSandboxStore: services.sandboxes.SandboxStore
WithTransferService: services.transfer.TransferService
WithInMemoryServices: - only the daemon's own plugins have services in memory
NewRemoteContainerStore: services.containers.ContainersService
NewDiffServiceFromClient: services.diff.DiffService
NewEventServiceFromClient: services.events.EventsService
NewImageStoreFromClient: services.images.ImagesService
NewNamespaceStoreFromClient: services.namespaces.NamespacesService
"""
TABLES: Final = {
    "Spec options: package `oci`": OCI,
    "Spec options: `cdi`, `seccomp`, `apparmor`, `nvidia`": CONTRIBUTED,
    "Containers, checkpoints, sandboxes": CONTAINERS,
    "Tasks and processes": TASKS,
    "Images": IMAGES,
    "The client and its services": CLIENT,
}
_NAME: Final = re.compile(r"(?P<path>[\w.]+)(?:\((?P<argument>\w+)\))?")


def rows(table: str) -> dict[str, str]:
    """Return what is here by Go name."""
    return dict(line.split(": ", 1) for line in table.strip().splitlines())


def problem(name: str) -> str:
    """Say what is wrong with a name of this package, or nothing."""
    match = _NAME.fullmatch(name)
    if match is None:
        return f"{name} is no name"
    try:
        thing = _resolve(match["path"])
    except (AttributeError, ImportError) as error:
        return f"{name}: {error}"
    argument = match["argument"]
    return f"{name}: no such argument" if argument and argument not in _arguments(thing) else ""


def _resolve(path: str) -> Any:
    if path.startswith(("with_", "without_", "compose")):
        return getattr(importlib.import_module("containerd_py.oci.spec_options"), path)
    first, *rest = path.split(".")
    if first in containerd_py.__all__:
        return _attribute(getattr(containerd_py, first), rest)
    for cut in range(len(rest), 0, -1):
        try:
            module = importlib.import_module(".".join(["containerd_py", first, *rest[: cut - 1]]))
        except ModuleNotFoundError:
            continue
        return _attribute(module, rest[cut - 1 :])
    raise AttributeError(f"nothing is called {path}")


def _attribute(thing: Any, names: list[str]) -> Any:
    for name in names:
        if attrs.has(thing) and name in attrs.fields_dict(thing):
            return attrs.fields_dict(thing)[name]
        thing = getattr(thing, name)
    return thing


def _arguments(thing: Callable[..., Any]) -> set[str]:
    found: set[str] = set()
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options = get_type_hints(thing)[name]
            found |= set(options.__args__[0].__annotations__) if hasattr(options, "__args__") else set()
        found.add(name)
    return found


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for title, table in TABLES.items():
        lines = [f"| `{go}` | {_shown(here)} |" for go, here in rows(table).items()]
        parts.append("\n".join([f"## {title}\n", "| Go | Here |", "|---|---|", *lines, ""]))
    return "\n".join(parts)


def _shown(here: str) -> str:
    if here.startswith("- "):
        return f"none: {here[2:]}"
    shown = [re.sub(r"\((\w+)\)$", r"(\1=)", name) for name in here.split(", ")]
    prefixed = [
        f"containerd_py.{name}" if name[0].islower() and "." in name.partition("(")[0] else name for name in shown
    ]
    return ", ".join(f"`{name}`" for name in prefixed)


if __name__ == "__main__":
    PAGE.write_text(render())
