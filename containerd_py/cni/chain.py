"""A network's plugins called one after the other: ADD, DEL, CHECK, GC, STATUS. Blocking, for worker threads.

Source: CNI specification 1.1, sections 3 and 4; libcni for what the specification leaves open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from containerd_py.cni.answers import read_answer
from containerd_py.cni.attachment import Attachment
from containerd_py.cni.cache import ResultCache
from containerd_py.cni.config import NetworkConfig, PluginConfig
from containerd_py.cni.netns import in_netns, is_netns
from containerd_py.cni.programs import PLUGIN_BOUND, find_plugin, run_plugin
from containerd_py.cni.results import CNIResult, result_from
from containerd_py.cni.rules import remove_container_rules
from containerd_py.cni.stopping import Stop, Stopped
from containerd_py.cni.versions import SUPPORTED, is_at_least, newest_of, refuse
from containerd_py.errors import (
    CNIError,
    CNIProtocolError,
    CNIUnknownContainerError,
    CNIVersionError,
    InvalidArgumentError,
)
from containerd_py.oci.json_fields import Fields

_TAKEN: Final = "duplicate allocation"  # host-local: the container has an address already, from before a crash
_VERSIONS: Final = frozenset(["cniVersion", "supportedVersions"])


@attrs.frozen
class Chain:
    """Calls the plugins of networks. `netns` is the namespace that is the host's for them; None is our own."""

    folders: tuple[Path, ...]
    cache: ResultCache
    netns: Path | None = None
    bound: float = PLUGIN_BOUND

    def add(self, network: NetworkConfig, attachment: Attachment, stop: Stop | None = None) -> CNIResult:
        """Attach a container and return what was made. Where that fails or is stopped, DEL has undone it.

        Raises:
            CNIError: A plugin failed.
            Stopped: The caller was cancelled.
        """
        network = self.negotiated(network)
        try:
            return self._add(network, attachment, stop)
        except CNIError as error:
            self._undo(network, attachment, error)
            if _TAKEN not in str(error):
                raise
        except BaseException as error:
            self._undo(network, attachment, error)
            raise
        try:
            return self._add(network, attachment, stop)
        except BaseException as error:
            self._undo(network, attachment, error)
            raise

    def _add(self, network: NetworkConfig, attachment: Attachment, stop: Stop | None) -> CNIResult:
        result: CNIResult | None = None
        previous: dict[str, object] | None = None
        for plugin in network.plugins:
            additions = {} if previous is None else {"prevResult": previous}
            variables = attachment.variables(netns=str(attachment.netns))
            answer = self._call("ADD", network, plugin, variables, additions, attachment.capabilities, stop)
            if answer is None:
                raise CNIProtocolError(f"plugin {plugin.type} answered nothing to ADD", plugin=plugin.type)
            result = _result(answer, plugin.type)
            previous = answer
            # At once, not at the end as libcni: without it firewall's DEL does not know what to undo after a crash.
            self.cache.store(network, attachment, previous)
        if stop is not None and stop.is_set:
            raise Stopped
        assert result is not None, "a network has plugins"
        return result

    def _undo(self, network: NetworkConfig, attachment: Attachment, error: BaseException) -> None:
        try:
            self.delete(network, attachment)
        except (CNIError, OSError) as failure:
            error.add_note(f"left behind on network {network.name}: {failure}")

    def delete(self, network: NetworkConfig, attachment: Attachment, result: CNIResult | None = None) -> None:
        """Detach a container, in the plugins' reverse order; that nothing is attached is fine.

        A plugin that fails does not keep the others from being called. `result` stands in for a kept one that was lost.

        Raises:
            CNIError: A plugin failed; the failures of others are its notes.
        """
        network = self.negotiated(network) if network.cni_versions else network
        netns = str(attachment.netns) if is_netns(attachment.netns) else ""
        previous = self.cache.result(network.name, attachment)
        if previous is None and result is not None:
            previous = result.document
        additions = (
            {} if previous is None or not is_at_least(network.cni_version, "0.4.0") else {"prevResult": previous}
        )
        failures: list[CNIError] = []
        for plugin in reversed(network.plugins):
            try:
                self._call(
                    "DEL", network, plugin, attachment.variables(netns=netns), additions, attachment.capabilities
                )
            except CNIUnknownContainerError:
                continue  # there is nothing to clean up, says the specification
            except CNIError as error:
                failures.append(error)
        if not netns:
            # Without it plugins do not know which rules there are.
            in_netns(self.netns, lambda: remove_container_rules(network.name, attachment.container_id))
        raise_first(failures)
        self.cache.drop(network.name, attachment)

    def check(self, network: NetworkConfig, attachment: Attachment) -> None:
        """Ask the plugins whether the container is attached as it was; those too old to tell are not asked.

        Raises:
            CNIError: Something is not as it was.
        """
        network = self.negotiated(network)
        if network.disable_check or not is_at_least(network.cni_version, "0.4.0"):
            return
        previous = self.cache.result(network.name, attachment)
        if previous is None:
            raise CNIError(f"nothing is known of container {attachment.container_id} on network {network.name}")
        for plugin in network.plugins:
            variables = attachment.variables(netns=str(attachment.netns))
            self._call("CHECK", network, plugin, variables, {"prevResult": previous}, attachment.capabilities)

    def status(self, network: NetworkConfig) -> None:
        """Ask the plugins whether they could attach a container now; those that do not know STATUS are not asked.

        Raises:
            CNIError: One could not.
        """
        network = self.negotiated(network)
        if is_at_least(network.cni_version, "1.1.0"):
            for plugin in network.plugins:
                self._call("STATUS", network, plugin, {}, {}, {})

    def collect(self, network: NetworkConfig, valid: Iterable[tuple[str, str]]) -> None:
        """Let the plugins that know GC drop everything but the attachments named by container ID and interface.

        Raises:
            CNIError: A plugin failed; the failures of others are its notes.
        """
        network = self.negotiated(network)
        if network.disable_gc or not is_at_least(network.cni_version, "1.1.0"):
            return
        named = [{"containerID": container, "ifname": interface} for container, interface in valid]
        additions = {
            "cni.dev/valid-attachments": named,
            "cni.dev/attachments": named,
        }  # before 1.1 was final: the latter
        failures: list[CNIError] = []
        for plugin in network.plugins:
            try:
                self._call("GC", network, plugin, {}, additions, {})
            except CNIError as error:
                failures.append(error)
        raise_first(failures)

    def versions(self, plugin: str) -> tuple[str, ...]:
        """Ask a plugin which versions of the specification it knows.

        Raises:
            CNIError: There is no such plugin, or it failed.
        """
        program = find_plugin(plugin, self.folders)
        document = json.dumps({"cniVersion": SUPPORTED[-1]}).encode()
        # The plugins' library wants an interface even for VERSION, where the specification has none.
        variables = {"CNI_COMMAND": "VERSION", "CNI_PATH": self._path, "CNI_IFNAME": "dummy"}
        answer = read_answer(run_plugin(program, document, variables, bound=self.bound), plugin, "VERSION")
        try:
            fields = Fields(members=answer or {}, known=_VERSIONS, what=f"answer of plugin {plugin} to VERSION")
            return fields.strings("supportedVersions")
        except InvalidArgumentError as error:
            raise CNIProtocolError(str(error), plugin=plugin) from error

    def negotiated(self, network: NetworkConfig) -> NetworkConfig:
        """Return the network in the newest version that it offers and all its plugins know.

        Raises:
            CNIVersionError: There is none.
            CNIError: A plugin is missing or failed.
        """
        offered = {network.cni_version, *network.cni_versions}
        known = set(SUPPORTED)
        for plugin in network.plugins:
            versions = self._known_versions(plugin.type)
            known &= set(versions)
            if not offered & known:
                raise refuse(plugin.type, network.cni_version, versions)
        best = newest_of(offered, known)
        if best is None:
            raise CNIVersionError(f"network {network.name} offers no CNI version that is known here", code=1)
        return attrs.evolve(network, cni_version=best)

    def _known_versions(self, plugin: str) -> tuple[str, ...]:
        program = find_plugin(plugin, self.folders)
        status = program.stat()
        key = (str(program), status.st_mtime_ns, status.st_size, status.st_ino)
        if key not in _ASKED:
            if len(_ASKED) >= _REMEMBERED:
                _ASKED.clear()
            _ASKED[key] = self.versions(plugin)
        return _ASKED[key]

    @property
    def _path(self) -> str:
        return ":".join(map(str, self.folders))

    def _call(
        self,
        command: str,
        network: NetworkConfig,
        plugin: PluginConfig,
        variables: Mapping[str, str],
        additions: Mapping[str, object],
        capabilities: Mapping[str, object],
        stop: Stop | None = None,
    ) -> dict[str, object] | None:
        program = find_plugin(plugin.type, self.folders)
        wanted = {name: value for name, value in capabilities.items() if name in plugin.capabilities}
        request = network.request(plugin, {**additions, **({"runtimeConfig": wanted} if wanted else {})})
        answer = run_plugin(
            program,
            json.dumps(request).encode(),
            {"CNI_COMMAND": command, "CNI_PATH": self._path, **variables},
            netns=self.netns,
            bound=self.bound,
            stop=stop,
        )
        return read_answer(answer, plugin.type, command)


def raise_first(failures: Sequence[CNIError]) -> None:
    """Raise the first failure, if there is one, with the others as its notes."""
    for other in failures[1:]:
        failures[0].add_note(f"and: {other}")
    if failures:
        raise failures[0]


def _result(answer: Mapping[str, object], plugin: str) -> CNIResult:
    try:
        return result_from(answer, what=f"answer of plugin {plugin} to ADD")
    except InvalidArgumentError as error:
        raise CNIProtocolError(str(error), plugin=plugin) from error


_REMEMBERED: Final = 256  # programs
_ASKED: dict[tuple[str, int, int, int], tuple[str, ...]] = {}  # a program's versions do not change while it does not
