"""What others keep in the same daemon."""

from __future__ import annotations

from containerd_py._calls.calls import Calls
from containerd_py._flows.pods import KUBERNETES_NAMESPACE, Pod, list_pods


class NeighbourCalls(Calls):
    """What others keep in the same daemon."""

    async def list_pods(self, *, namespace: str = KUBERNETES_NAMESPACE) -> list[Pod]:
        """Return the pods of Kubernetes and their containers, in the order they were made; nothing is changed.

        `namespace` is containerd's. Pods of any kubelet's containerd are seen, through its records, tasks and notes.
        """
        return await list_pods(self._services, namespace)
