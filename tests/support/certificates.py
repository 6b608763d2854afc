"""Authorities and certificates for tests of TLS, as files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import trustme

from cell_worker.contract.tls import TlsFiles


class Authority:
    """An authority that issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.cert = folder / f"{name}.crt"
        self._ca.cert_pem.write_to_path(str(self.cert))

    def issue(self, *names: str, end: datetime | None = None, file: str = "tls") -> tuple[Path, Path]:
        """Issue a certificate for these names, in place of an earlier one; returns it and its key."""
        cert, key = self._folder / f"{file}.crt", self._folder / f"{file}.key"
        issued = self._ca.issue_cert(*names, not_after=end)
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return cert, key

    def files(self, *names: str, ca: Path | None = None, file: str = "tls") -> TlsFiles:
        """Issue a certificate for these names, and return the files of a side that trusts `ca`."""
        return TlsFiles(ca, *self.issue(*names, file=file))
