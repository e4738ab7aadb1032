"""Where a task's json-file log goes, and how it is found again: by us, by nerdctl, by the daemon's restart monitor."""

from __future__ import annotations

import json
from functools import partial
from typing import Final

import attrs
from anyio import to_thread

from containerd_py._flows.restarts import restart_log_labels
from containerd_py._flows.same_host import require_same_host
from containerd_py._flows.state_directory import (
    StateDirectory,
    make_state_directory,
    recorded_state_directory,
    state_directory,
)
from containerd_py._flows.undoing import settled
from containerd_py._whole_files import read_bounded, write_whole
from containerd_py.cio.config import IOConfig
from containerd_py.cio.json_log import OWN_FOLDER, log_folder_of, make_log_folder, placed_log
from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import LOG_FOLDER, NERDCTL_LOG_CONFIG, NERDCTL_LOG_URI, check_labels
from containerd_py.oci.strict_json import load_object
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord

_CONFIG: Final = "log-config.json"  # nerdctl, pkg/logging
_DRIVER: Final = "json-file"
_MAX_CONFIG: Final = 1 << 16  # bytes


async def prepare_log(services: Services, record: ContainerRecord, io: IOConfig) -> IOConfig:
    """Make the folder of a task's log, tell the container's labels about it, and return the I/O to create it with.

    Raises:
        RemoteDaemonError: The daemon is on another host, where the log would be written.
        PermissionDeniedError: The folder may not be made or written here.
        InvalidArgumentError: Something else has its name.
    """
    folder = log_folder_of(io)
    if folder is not None:
        await require_same_host(services, "a container's log is written")
    labels: dict[str, str] = {}
    state: StateDirectory | None = None
    if folder == OWN_FOLDER:
        state = recorded_state_directory(services.namespace, record.id, record.labels)
        state = await state_directory(services, record.id) if state is None else state
        folder = state.path
        io = placed_log(io, folder)
        labels |= {**state.labels, NERDCTL_LOG_URI: io.stdout, NERDCTL_LOG_CONFIG: json.dumps(_config(services))}
    labels |= restart_log_labels(record, io)
    if folder is not None:
        labels[LOG_FOLDER] = folder
    # Before anything is made: what the labels name goes with the container.
    if any(record.labels.get(key) != value for key, value in labels.items()):
        check_labels(labels)
        changed = attrs.evolve(record, labels={**record.labels, **labels})
        await services.containers.update(changed, fields=[f"labels.{key}" for key in labels])
    if state is not None:
        await settled(partial(to_thread.run_sync, partial(_make, state, json.dumps(_config(services)))))
    elif folder is not None:
        await to_thread.run_sync(make_log_folder, folder)
    return io


def _config(services: Services) -> dict[str, object]:
    return {"driver": _DRIVER, "address": services.connection.address}


def _make(state: StateDirectory, config: str) -> None:
    make_state_directory(state)
    write_whole(f"{state.path}/{_CONFIG}", config.encode())


def log_folder(namespace: str, record: ContainerRecord) -> str | None:
    """Return the folder of a container's json-file log, also of one that nerdctl writes. Blocks."""
    if (folder := record.labels.get(LOG_FOLDER)) is not None:
        return folder
    state = recorded_state_directory(namespace, record.id, record.labels)
    if state is None:
        return None
    try:
        data = read_bounded(f"{state.path}/{_CONFIG}", limit=_MAX_CONFIG)
        config = load_object(data, what=_CONFIG, max_size=_MAX_CONFIG, maps=("opts",))
    except (FileNotFoundError, NotADirectoryError, InvalidArgumentError):
        return None
    return state.path if config.get("driver") == _DRIVER else None
