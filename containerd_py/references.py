"""Image references: what `alpine` means in full, and what may be a reference at all. Talks to no registry."""

from __future__ import annotations

import re
from typing import Final, Self

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.digests import is_digest

DEFAULT_DOMAIN: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
MAX_PATH_LENGTH: Final = 255  # distribution/reference, RepositoryNameTotalLengthMax

MAX_DOMAIN_LENGTH: Final = 512  # twice what the domain name system allows
MAX_LENGTH: Final = 4096  # of a whole reference: more than its parts can have together

_LEGACY_DOMAIN: Final = "index.docker.io"
_DEFAULT_HOST: Final = "registry-1.docker.io"  # Docker Hub's registry does not live at its name
_OFFICIAL: Final = "library/"

# Grammar of distribution/reference. Always with fullmatch: `$` would let a final newline through.
_DOMAIN_PART: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_PATH_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
# The last form is the Go grammar's back door: a host name with underscores passes as part of the path, without a port.
_DOMAIN: Final = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?|{_PATH_PART}"
_PATH: Final = rf"{_PATH_PART}(?:/{_PATH_PART})*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

_DOMAIN_RE: Final = re.compile(_DOMAIN, re.ASCII)
PATH_RE: Final = re.compile(_PATH, re.ASCII)
TAG_RE: Final = re.compile(_TAG, re.ASCII)
_IDENTIFIER_RE: Final = re.compile(r"[a-f0-9]{64}", re.ASCII)


@attrs.frozen(kw_only=True)
class Reference:
    """An image reference in full: `domain/path[:tag][@digest]`, with a tag, a digest, or both.

    `domain` names the registry, with its port if there was one; `path` is the repository. Built by `parse`, or from
    parts that are checked just as strictly, so that `Reference.parse(str(x)) == x` always holds.
    Source: distribution/reference, as containerd's clients use it.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    def __attrs_post_init__(self) -> None:
        _check_parts(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference as people write it: `alpine` is `docker.io/library/alpine:latest`.

        Raises:
            InvalidArgumentError: The text is no reference; the message says which part is at fault.
        """
        if not isinstance(text, str):
            raise InvalidArgumentError(f"an image reference is a string, not {text!r}")
        if len(text) > MAX_LENGTH:
            raise InvalidArgumentError(f"{len(text)} characters are no image reference: {_shown(text)}")
        if _IDENTIFIER_RE.fullmatch(text):
            raise InvalidArgumentError(f"{text!r} is a bare identifier: write name@sha256:{text[:12]}… instead")
        domain, remainder = _split_domain(text)
        remainder, at, digest = remainder.partition("@")
        path, colon, tag = remainder.partition(":")
        if not at and not colon:
            tag, colon = DEFAULT_TAG, ":"
        try:
            return cls(domain=domain, path=path, tag=tag if colon else None, digest=digest if at else None)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{_shown(text)} is no image reference: {error}") from None

    @property
    def name(self) -> str:
        """The repository with its registry, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def host(self) -> str:
        """The registry's own address; differs from the domain for Docker Hub only."""
        return _DEFAULT_HOST if self.domain == DEFAULT_DOMAIN else self.domain

    @property
    def object(self) -> str:
        """What the registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def familiar(self) -> str:
        """The short form people know: Docker Hub's domain and its `library/` left out."""
        if self.domain != DEFAULT_DOMAIN:
            return str(self)
        path = self.path.removeprefix(_OFFICIAL)
        return (self.path if "/" in path else path) + self._suffix

    def with_tag(self, tag: str | None) -> Self:
        """Put another tag in, or take it out; the digest stays.

        Raises:
            InvalidArgumentError: The tag is malformed, or nothing is left to ask the registry for.
        """
        return attrs.evolve(self, tag=tag)

    def with_digest(self, digest: str | None) -> Self:
        """Pin to a digest, or take it out; the tag stays.

        Raises:
            InvalidArgumentError: The digest is malformed, or nothing is left to ask the registry for.
        """
        return attrs.evolve(self, digest=digest)

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return tag + digest

    def __str__(self) -> str:
        return self.name + self._suffix


def _check_parts(reference: Reference) -> None:
    domain, path, tag, digest = reference.domain, reference.path, reference.tag, reference.digest
    if len(domain) > MAX_DOMAIN_LENGTH:
        raise InvalidArgumentError(f"the registry has {len(domain)} characters, more than {MAX_DOMAIN_LENGTH}")
    if not _DOMAIN_RE.fullmatch(domain):
        raise InvalidArgumentError(f"the registry {_shown(domain)} is malformed")
    if len(path) > MAX_PATH_LENGTH:
        raise InvalidArgumentError(f"the repository has {len(path)} characters, more than {MAX_PATH_LENGTH}")
    if path != path.lower():
        raise InvalidArgumentError(f"the repository {_shown(path)} has upper-case letters")
    if not PATH_RE.fullmatch(path):
        raise InvalidArgumentError(f"the repository {_shown(path)} is malformed")
    if tag is not None and not TAG_RE.fullmatch(tag):
        raise InvalidArgumentError(f"the tag {_shown(tag)} is malformed")
    if digest is not None and not is_digest(digest):
        raise InvalidArgumentError(f"the digest {_shown(digest)} is malformed")
    if tag is None and digest is None:
        raise InvalidArgumentError("it has neither tag nor digest")
    if _split_domain(f"{domain}/{path}") != (domain, path):
        raise InvalidArgumentError(f"{_shown(domain)} would not be read back as the registry of {_shown(path)}")


def _split_domain(text: str) -> tuple[str, str]:
    """Split off the registry, filling in Docker Hub's."""
    domain, slash, remainder = text.partition("/")
    if not slash or not _is_domain(domain):
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _is_domain(part: str) -> bool:
    """Tell a registry from the first part of a repository: by a dot, a colon, an upper-case letter, or localhost."""
    return part == "localhost" or "." in part or ":" in part or part != part.lower()


def _shown(text: str) -> str:
    """Quote for a message, hostile lengths cut off."""
    return repr(text if len(text) <= MAX_PATH_LENGTH else text[:64] + "…")
