"""What programs that died have left of containers' networks, taken down. Never of one that exists or is being made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import attrs
from anyio import to_thread

from containerd_py._flows.directories import remove_if_empty
from containerd_py._flows.network_settings import network_settings
from containerd_py._flows.state_directory import data_store, exists, remove_leftover_directories
from containerd_py.cni.cache import CachedAttachment
from containerd_py.cni.netns import is_netns, remove_netns
from containerd_py.cni.settings import NetworkSettings
from containerd_py.cni.store import NetworkStore
from containerd_py.cni.turns import take_last_turn
from containerd_py.cni.versions import is_at_least
from containerd_py.errors import CNIError, InvalidArgumentError
from containerd_py.services.bundle import Services


@attrs.frozen(kw_only=True)
class ReclaimReport:
    """What was reclaimed: the IDs of the containers it had been of; and what could not be, in words."""

    containers: tuple[str, ...]
    failures: tuple[str, ...] = ()


async def reclaim_networks(services: Services) -> ReclaimReport:
    """Take down what is left of containers that are gone."""
    settings = network_settings(services.connection)
    failures = []
    reclaimed = set()
    try:
        reclaimed |= set(await remove_leftover_directories(services))
    except (CNIError, InvalidArgumentError) as error:  # a plugin fails, or a file was damaged
        failures.append(str(error))
    store = await to_thread.run_sync(data_store, services.connection)
    folder = settings.netns_dir / Path(store).name / services.namespace
    for container_id in await to_thread.run_sync(_namespaces, folder):
        if await to_thread.run_sync(Path(store, "containers", services.namespace, container_id).exists):
            continue  # its directory knows better; while it is being made, it is there before the namespace
        if await exists(services, container_id):
            continue
        work = partial(_take_down, settings, folder / container_id, f"{services.namespace}-{container_id}")
        try:
            await take_last_turn(settings, work)
            reclaimed.add(container_id)
        except CNIError as error:
            failures.append(f"{container_id}: {error}")
    failures += await take_last_turn(settings, partial(_collect, settings, services.namespace))
    return ReclaimReport(containers=tuple(sorted(reclaimed)), failures=tuple(failures))


def _namespaces(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []


def _take_down(settings: NetworkSettings, netns: Path, plugins_id: str) -> None:
    for cached in _cached(settings, netns, plugins_id):
        settings.chain.delete(cached.network, attrs.evolve(cached.attachment, netns=netns))
    remove_netns(netns)
    for folder in (netns.parent, netns.parent.parent, settings.netns_dir):
        remove_if_empty(folder)


def _cached(settings: NetworkSettings, netns: Path, plugins_id: str) -> list[CachedAttachment]:
    """Return what is attached under an ID, but to a namespace that is not this one and lives.

    Plugins know containers as NAMESPACE-ID, which says the same of a-b's c and of a's b-c, and of another daemon's.
    """
    found = [each for each in settings.chain.cache.attachments() if each.attachment.container_id == plugins_id]
    return [each for each in found if each.attachment.netns == netns or not is_netns(each.attachment.netns)]


def _collect(settings: NetworkSettings, namespace: str) -> list[str]:
    """Let plugins that know GC drop what no attachment stands for; the results kept name all that are."""
    chain = settings.chain
    failures = []
    for network in NetworkStore(settings.conf_dir, namespace).all():
        config = network.config
        if config.disable_gc or not any(is_at_least(v, "1.1.0") for v in (config.cni_version, *config.cni_versions)):
            continue
        valid = [
            (cached.attachment.container_id, cached.attachment.interface)
            for cached in chain.cache.attachments(config.name)
        ]
        try:
            chain.collect(config, valid)
        except CNIError as error:
            failures.append(f"network {config.name}: {error}")
    return failures
