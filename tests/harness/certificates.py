"""TLS certificates of a test's own authority, the bad ones included."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme

LOOPBACK: Final = ("localhost", "127.0.0.1", "127.0.0.2", "::1")


class Authority:
    """A certificate authority that nobody else trusts."""

    def __init__(self) -> None:
        self._authority = trustme.CA(organization_name="containerd_py tests")
        self.pem = self._authority.cert_pem.bytes()

    def write(self, folder: Path) -> Path:
        """Write the authority's certificate as ``ca.pem`` into ``folder``."""
        path = folder / "ca.pem"
        path.write_bytes(self.pem)
        return path

    def server(
        self,
        *names: str,
        expired: bool = False,
        client_required: bool = False,
        newest_version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """Make a server's context for host names and addresses (default: those of loopback)."""
        began = datetime.now(UTC) - timedelta(days=2)
        end = began + timedelta(days=1 if expired else 30)
        certificate = self._authority.issue_cert(*(names or LOOPBACK), not_before=began, not_after=end)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if client_required:
            context.verify_mode = ssl.CERT_REQUIRED
            self._authority.configure_trust(context)
        if newest_version is not None:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or OpenSSL has no cipher for what is older than 1.2
            context.minimum_version = context.maximum_version = newest_version
        return context

    def client(self) -> ssl.SSLContext:
        """Make a client's context that trusts this authority only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context

    def write_client(self, folder: Path, name: str = "client") -> tuple[Path, Path]:
        """Write a client's certificate and its key into ``folder``; return their paths."""
        issued = self._authority.issue_cert(f"{name}.example")
        certificate, key = folder / f"{name}.cert", folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return certificate, key
