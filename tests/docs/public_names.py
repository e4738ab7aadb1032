"""Writes `docs/reference/public-names.md`: `python -m tests.docs.public_names`. The tests prove that it is current."""

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any, Final

import containerd_py
from containerd_py.oci import spec_options
from containerd_py.services import bundle
from containerd_py.services.events import EventsService
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "reference" / "public-names.md"
INTRODUCTION: Final = """\
# Public names

Everything is imported from `containerd_py` unless a module is named. Each line is the first sentence of the name's own
documentation; `help(name)` has the rest. This page is written by `python -m tests.docs.public_names`.
"""
AREAS: Final = {
    "Connection": "connect Client ClientPool Services Version",
    "Images": """Pull Push Progress Image ImageRecord ImageUsage ImageCheck ImageDetails Manifest ImageConfig History
        HistoryEntry PruneReport Reference Descriptor Platform""",
    "Making images": "LayerSource DirectoryLayer TarLayer RunLayer ConfigChanges",
    "Archives": "Import Export ArchiveLimits",
    "Registries": "Registry Repository RegistryLimits Credential DockerConfig Secret",
    "Files of containers": "CopiedOut FileStatus FileChange ChangeKind UserNamespace",
    "Containers": """Container ContainerRecord Runtime RuncOptions ShimOptions CompletedProcess deleting Deletable
        Cleanup for_each""",
    "Tasks and processes": """Task Process ExitStatus ProcessStatus ProcessInfo TaskState Metrics CpuMetrics
        MemoryMetrics PidsMetrics IoMetrics Stats StatsStream TopEntry""",
    "Input and output": """open_fifos attach_fifos open_inherited attached_terminal TerminalSession DETACHED Detached
        FifoIO IOConfig NULL_IO log_file log_binary log_uri json_file_log LogLine""",
    "A daemon of one's own": "open_daemon Daemon",
    "Values of services": """ContentInfo IngestStatus Lease LeaseResource LEASE_LIFETIME Namespace SnapshotInfo
        SnapshotKind SnapshotterInfo UnusedSnapshot CleanupReport Usage Mount Plugin PluginInfo ServerInfo Timestamp
        TypedValue HealthStatus""",
    "Devices": "find_cdi_devices load_cdi_registry CDIRegistry",
    "AppArmor": """default_apparmor_profile is_apparmor_enabled load_apparmor_profile
        load_default_apparmor_profile""",
    "Volumes": "Volumes Volume VolumeMount",
    "Health": "HealthCheck Health Probe",
    "Networks": """Networks Network NetworkInfo NetworkSettings ContainerNetwork PortMapping ReclaimReport CNIResult
        CNIInterface CNIAddress CNIRoute CNIDns""",
    "Events": "Envelope Event EventsGap",
    "Filters": "where Filter check_filter",
    "Neighbours": "Pod PodContainer",
}
WITH_MEMBERS: Final = frozenset(
    [
        "Client",
        "Services",
        "Pull",
        "Image",
        "Container",
        "Task",
        "Process",
        "Daemon",
        "FifoIO",
        "TerminalSession",
        "Networks",
        "Network",
        "Volumes",
    ]
)
CONSTANTS: Final = {  # constants and aliases have no documentation of their own
    "NULL_IO": "I/O to and from /dev/null.",
    "DETACHED": "What a terminal session ends with when it was left and the process goes on.",
    "LEASE_LIFETIME": "How long a lease lives unless it is told otherwise: 24 hours.",
    "LayerSource": "What a layer may be made of: a `DirectoryLayer`, a `TarLayer`, a `RunLayer`.",
    "Event": "What an envelope holds: a class per type of event, `EventsGap`, or `TypedValue` of an unknown type.",
}
MODULES: Final = {
    "containerd_py.console": "PullBars",
    "containerd_py.testing.registry": "open_registry LocalRegistry",
    "containerd_py.testing.images": "busybox_layout ImageLayout ImageOptions",
    "containerd_py.testing.layers": "LayerFile random_layers",
}


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for title, names in _areas().items():
        parts.append(f"## {title}\n")
        parts.append(_table((name, getattr(containerd_py, name)) for name in names))
        parts += [_members(name, getattr(containerd_py, name)) for name in names if name in WITH_MEMBERS]
    parts.append("## Errors\n\nIndented below what also catches them.\n")
    parts.append("\n".join(_error_lines(containerd_py.ContainerdError, 0)) + "\n")
    parts.append("## Services\n\nOn `client`, and on `client.services`.\n")
    parts += [_members(service.__name__, service) for service in _services()]
    parts.append("## Spec options\n\nIn `containerd_py.oci.spec_options`.\n")
    parts.append(_table((name, getattr(spec_options, name)) for name in spec_options.__all__ if name != "SpecOption"))
    for module, names in MODULES.items():
        parts.append(f"## `{module}`\n")
        parts.append(_table((name, getattr(importlib.import_module(module), name)) for name in names.split()))
    return "\n".join(parts)


def _areas() -> dict[str, list[str]]:
    """Return the names by area; event classes fill theirs by themselves."""
    areas = {title: names.split() for title, names in AREAS.items()}
    events = "containerd_py.services.event_types"
    areas["Events"] += [
        name
        for name in containerd_py.__all__
        if getattr(getattr(containerd_py, name), "__module__", "") == events and name not in areas["Events"]
    ]
    return areas


def unlisted() -> list[str]:
    """Return the exported names that no area has."""
    listed = {name for names in _areas().values() for name in names}
    return [name for name in containerd_py.__all__ if name not in listed and not name.endswith("Error")]


def _table(rows: Iterator[tuple[str, Any]]) -> str:
    lines = [f"| `{name}` | {CONSTANTS.get(name) or _first_sentence(thing)} |" for name, thing in rows]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _members(name: str, owner: type) -> str:
    rows = [f"| `{attribute}` | An attribute. |" for attribute in _attributes(owner)]
    for member in dir(owner):
        thing = inspect.getattr_static(owner, member)
        if member.startswith("_") or not (callable(thing) or hasattr(thing, "__get__")):
            continue
        documented = getattr(thing, "fget", None) or getattr(thing, "func", None) or getattr(thing, "__func__", thing)
        called = "()" if callable(thing) else ""
        rows.append(f"| `{member}{called}` | {_first_sentence(documented)} |")
    return "\n".join([f"### {name}\n", "| | |", "|---|---|", *rows, ""])


def _attributes(owner: type) -> list[str]:
    """Return the public attributes that the constructor sets."""
    lines = inspect.getsource(owner.__init__).splitlines()
    found = [re.match(r"\s+self\.([a-z]\w*)(?:: [^=]+)? =", line) for line in lines]
    return [match[1] for match in found if match]


def _services() -> list[type]:
    found = [getattr(value, "func", None) for value in vars(bundle.Services).values()]
    names = {"EventsService": EventsService}  # which the bundle fetches when it is asked for
    types = [
        inspect.signature(function, locals=names, eval_str=True).return_annotation
        for function in found
        if function is not None
    ]
    return [*types, bundle.SnapshotsService]


def _error_lines(error: type, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}- `{error.__name__}`: {_first_sentence(error)}"
    for child in sorted(error.__subclasses__(), key=lambda child: child.__name__):
        if child.__name__ in containerd_py.__all__ and child.__bases__[0] is error:
            yield from _error_lines(child, depth + 1)


def _first_sentence(thing: Any) -> str:
    paragraph = (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")
    for end in (". ", ".  "):
        paragraph = paragraph.partition(end)[0]
    return paragraph.rstrip(".").replace("|", "\\|") + "."


if __name__ == "__main__":
    PAGE.write_text(render())
