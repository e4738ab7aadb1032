"""What an import keeps: the images for the platforms that are wanted, held together by labels as `ctr` would.

Knows image documents and the labels that keep content; knows neither archives nor image records.
Source: containerd, client/import.go (children are filtered by platform first, then labelled; a pull does it the other
way round).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from containerd_py._flows.content_labels import child_labels
from containerd_py._flows.image_content import MAX_DEPTH
from containerd_py._flows.import_content import ImportContent
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.image_spec import MAX_MANIFEST_SIZE, MAX_REFERENCES, parse_index, parse_manifest
from containerd_py.oci.media_types import is_index, is_layer, is_manifest, is_nondistributable, is_schema1
from containerd_py.platforms import Matcher
from containerd_py.types import Descriptor


class State(Enum):
    """What became of a piece of content."""

    WHOLE = "whole"
    LACKING = "some of what it names is missing"
    FILTERED = "nothing of it is for a wanted platform"
    MISSING = "missing"


@attrs.frozen(kw_only=True)
class GraphOptions:
    """What to keep. Without layers they are kept only until the lease goes: by then they are snapshots."""

    matcher: Matcher
    skip_missing: bool = False
    without_layers: bool = False


class ImportGraph:
    """Visits what an index names, keeps it, and says what became of it. Each piece of content is visited once."""

    def __init__(self, content: ImportContent, options: GraphOptions) -> None:
        self._content = content
        self._options = options
        self._states: dict[str, State] = {}

    def wanted(self, children: Sequence[Descriptor]) -> list[Descriptor]:
        """Return the children for wanted platforms, and those that name none."""
        return [child for child in children if self._options.matcher.matches(child.platform)]

    async def visit(self, descriptor: Descriptor, depth: int = 0) -> State:
        """Keep some content and what it names.

        Raises:
            NotFoundError: Something is missing, and that is not to be skipped.
            DataLossError: Something is not what its descriptor says.
            InvalidArgumentError: A document is malformed or too large, or there is too much of everything.
        """
        known = self._states.get(descriptor.digest)
        if known is not None:
            return known
        if len(self._states) >= MAX_REFERENCES:
            raise InvalidArgumentError(f"the images consist of more than {MAX_REFERENCES} pieces of content")
        try:
            state = await self._visit(descriptor, depth)
        except NotFoundError:
            if not self._options.skip_missing:
                raise
            state = State.MISSING
        self._states[descriptor.digest] = state
        return state

    async def _visit(self, descriptor: Descriptor, depth: int) -> State:
        if is_schema1(descriptor.media_type):
            raise InvalidArgumentError(
                f"{descriptor.digest} is a Docker schema 1 image, which nothing supports any more"
            )
        if depth > MAX_DEPTH:
            raise InvalidArgumentError(f"indexes are nested more than {MAX_DEPTH} deep")
        if is_index(descriptor.media_type):
            return await self._visit_index(descriptor, depth)
        if is_manifest(descriptor.media_type):
            return await self._visit_manifest(descriptor, depth)
        await self._content.keep(descriptor)
        return State.WHOLE

    async def _visit_index(self, descriptor: Descriptor, depth: int) -> State:
        data = await self._content.document(descriptor, limit=MAX_MANIFEST_SIZE)
        children = self.wanted(parse_index(data).manifests)
        states = [await self.visit(child, depth + 1) for child in children]
        if all(state in {State.FILTERED, State.MISSING} for state in states):
            return State.MISSING if State.MISSING in states else State.FILTERED
        await self._content.keep(descriptor, child_labels(children))
        return State.LACKING if {State.MISSING, State.LACKING} & {*states} else State.WHOLE

    async def _visit_manifest(self, descriptor: Descriptor, depth: int) -> State:
        manifest = parse_manifest(await self._content.document(descriptor, limit=MAX_MANIFEST_SIZE))
        is_lacking = False
        for child in (manifest.config, *manifest.layers):
            is_lacking |= await self._visit_part(child, depth + 1) is State.MISSING
        labelled = [manifest.config, *manifest.layers]
        if self._options.without_layers:
            labelled = [child for child in labelled if not is_layer(child.media_type)]
        await self._content.keep(descriptor, child_labels(labelled))
        return State.LACKING if is_lacking else State.WHOLE

    async def _visit_part(self, child: Descriptor, depth: int) -> State:
        try:
            return await self.visit(child, depth)
        except NotFoundError:
            if not is_nondistributable(child.media_type):
                raise
            return State.WHOLE  # not everybody may hand it on: whoever unpacks it fetches it from its URLs
