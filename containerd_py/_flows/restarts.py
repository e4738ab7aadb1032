"""Containers that the daemon itself starts again: what its restart monitor is told, and when it is to leave off.

It looks at labels every 10 seconds (its setting `interval`): where a status is wanted it sees to it, as the policy
says. So no status is wanted before a task's first start and after it was stopped. containerd 1.6 knows no policies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import attrs

from containerd_py.cio.config import IOConfig
from containerd_py.errors import InvalidArgumentError, NotFoundError, NotSupportedError
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord

_POLICY: Final = "containerd.io/restart.policy"
_STATUS: Final = "containerd.io/restart.status"
_COUNT: Final = "containerd.io/restart.count"
_LOG_URI: Final = "containerd.io/restart.loguri"
_EXPLICITLY_STOPPED: Final = "containerd.io/restart.explicitly-stopped"
_POLICIES: Final = re.compile(r"no|always|unless-stopped|on-failure(?::[1-9][0-9]{0,8})?", re.ASCII)
_MONITORS: Final = ("io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart")  # 1.x, 2.x
_BY_STATUS_ALONE: Final = frozenset({"always", "unless-stopped"})


async def restart_labels(services: Services, policy: str | None) -> dict[str, str]:
    """Return the labels of a container that is to be started again, checked against what the daemon can do.

    Raises:
        InvalidArgumentError: There is no such policy.
        NotSupportedError: The daemon has no monitor that knows it.
    """
    if policy is None:
        return {}
    if not _POLICIES.fullmatch(policy):
        raise InvalidArgumentError(
            f"restart={policy!r} is no policy: use 'no', 'always', 'unless-stopped', 'on-failure' or 'on-failure:5'"
        )
    if policy == "no":
        return {}
    if services.connection.features.isdisjoint(_MONITORS):
        raise NotSupportedError("this daemon starts no container again: its plugin 'restart' is disabled")
    kind = policy.partition(":")[0]
    if kind not in _BY_STATUS_ALONE:
        plugins = await services.introspection.plugins(['id=="restart"'])
        if not any(kind in plugin.capabilities for plugin in plugins):
            raise NotSupportedError(f"restart={policy!r} needs containerd 1.7: this daemon knows no restart policies")
    return {_POLICY: policy}


def restart_log_labels(record: ContainerRecord, io: IOConfig) -> dict[str, str]:
    """Return the label by which the monitor goes on with a log; FIFOs of a program it cannot serve."""
    if _POLICY not in record.labels or "://" not in io.stdout:
        return {}
    return {_LOG_URI: io.stdout}


def is_restarted(record: ContainerRecord) -> bool:
    """Tell whether the daemon starts a container again, or will once it was started."""
    return _POLICY in record.labels or _STATUS in record.labels


async def halt_restarts(services: Services, record: ContainerRecord) -> bool:
    """Keep the monitor from starting a container again until somebody else starts it; tell whether it would have."""
    if is_restarted(record):
        await _update(services, record, {_STATUS: "", _EXPLICITLY_STOPPED: "true"})
        return True
    return False


async def halt_restarts_of(services: Services, container_id: str) -> bool:
    """Do so for a container that is known by its ID, where it is still there."""
    try:
        record = await services.containers.get(container_id)
    except NotFoundError:
        return False
    return await halt_restarts(services, record)


async def begin_restarts(services: Services, container_id: str) -> None:
    """Have the monitor keep a container running that has just been started; it counts from 0."""
    try:
        record = await services.containers.get(container_id)
    except NotFoundError:
        return  # deleted meanwhile
    if _POLICY in record.labels:
        await _update(services, record, {_STATUS: "running", _EXPLICITLY_STOPPED: "", _COUNT: ""})


async def _update(services: Services, record: ContainerRecord, labels: Mapping[str, str]) -> None:
    if any(record.labels.get(key, "") != value for key, value in labels.items()):
        changed = attrs.evolve(record, labels={**record.labels, **labels})
        await services.containers.update(changed, fields=[f"labels.{key}" for key in labels])
