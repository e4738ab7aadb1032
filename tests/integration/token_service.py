"""A token service for a real registry: tokens that it verifies by their signature, good for what was asked for."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from containerd_py.testing.registry_options import TokenAuth
from tests.harness.http_origin import Origin, listening
from tests.harness.http_wire import Request, Response
from tests.harness.registry import basic_credentials
from tests.harness.registry_actions import error_response, json_response

SERVICE: Final = "registry.test"
ISSUER: Final = "tests"


class TokenService(Origin):
    """See ``open_token_service``. ``scopes`` remembers what was asked for, ``readers`` may not push."""

    def __init__(self, *, users: Mapping[str, str], readers: frozenset[str], folder: Path, port: int) -> None:
        super().__init__(self._issue, host="127.0.0.1", port=port, tls=None)
        self.users = dict(users)
        self.readers = readers
        self.scopes: list[str] = []
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = _certify(self._key)
        self._bundle = folder / "token-roots.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    @property
    def options(self) -> TokenAuth:
        """How a registry is told to trust this service."""
        return TokenAuth(realm=f"{self.url}/token", service=SERVICE, issuer=ISSUER, root_certificates=self._bundle)

    async def _issue(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode())) if request.method == "POST" else {}
        name, password = basic_credentials(request)
        if form.get("grant_type") == "password":
            name, password = form.get("username", ""), form.get("password", "")
        if not name or self.users.get(name) != password:
            return error_response(401, "UNAUTHORIZED", "who are you?")
        asked = [value for key, value in request.query_pairs if key == "scope"] + form.get("scope", "").split()
        self.scopes += asked
        token = self._sign(name, [_access(scope, name in self.readers) for scope in asked])
        return json_response({"token": token, "access_token": token})  # Go's client wants the latter after a POST

    def _sign(self, user: str, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        header = {
            "typ": "JWT",
            "alg": "RS256",
            "x5c": [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()],
        }
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{_encode(signature)}"


@asynccontextmanager
async def open_token_service(
    folder: Path, *, users: Mapping[str, str], readers: frozenset[str] = frozenset()
) -> AsyncIterator[TokenService]:
    """Hand out tokens to users; those among ``readers`` get none to push with."""
    async with listening(
        lambda port: TokenService(users=users, readers=readers, folder=folder, port=port), host="127.0.0.1", port=0
    ) as service:
        yield service


def _access(scope: str, reads_only: bool) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    granted = [action for action in actions.split(",") if action == "pull" or not reads_only]
    return {"type": kind, "name": name, "actions": granted}


def _certify(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
    began = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
