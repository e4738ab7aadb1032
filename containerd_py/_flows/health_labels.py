"""A container's health check as a label, for whoever is to run it: another program, or nerdctl."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import NERDCTL_HEALTH_CHECK, check_labels
from containerd_py.oci.health_check import HealthCheck, dump_health_check, load_health_check
from containerd_py.oci.image_spec import ImageConfig

_log = logging.getLogger(__name__)


def health_labels(given: HealthCheck | None, config: ImageConfig) -> dict[str, str]:
    """Return the label of a container with the check that was given, or else the image's.

    Raises:
        InvalidArgumentError: The one given is none, or does not fit into a label.
    """
    if given is not None and not isinstance(given, HealthCheck):
        raise InvalidArgumentError(f"health_check must be a HealthCheck(command=…), not {given!r}")
    check = config.health_check if given is None else given
    if check is None:
        return {}
    labels = {NERDCTL_HEALTH_CHECK: dump_health_check(check)}
    try:
        check_labels(labels)
    except InvalidArgumentError as error:
        if given is not None:
            raise
        _log.warning("the image's health check is not taken over: %s", error)
        return {}
    return labels


def labelled_health_check(labels: Mapping[str, str]) -> HealthCheck | None:
    """Return a container's check; None where it has none.

    Raises:
        InvalidArgumentError: Its label cannot be read.
    """
    text = labels.get(NERDCTL_HEALTH_CHECK)
    return load_health_check(text) if text else None
