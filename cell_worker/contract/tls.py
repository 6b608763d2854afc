"""TLS between routers, controllers and cells: contexts made of files, and made anew when the files change.

A part of the wire contract. Instances are at IP addresses, which say nothing of who is there. So a cell's certificate
names the cell, and whoever connects asks for that name: a stolen certificate can't pass for that of another cell.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TOLD: Final = {9: "is not valid yet", 10: "has expired", 62: "does not name {name}"}
"""What OpenSSL's numbers for a certificate's faults mean; other faults are for the other side to find."""


class TlsError(Exception):
    """A file of TLS can't be used; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of one side, in PEM. `ca` has the authorities whose certificates the other side must present."""

    ca: Path | None
    cert: Path | None
    key: Path | None

    def stamps(self) -> list[tuple[int, int] | None]:
        """Return what changes with each file's content: its inode and its time."""
        return [_stamp(path) for path in (self.ca, self.cert, self.key)]


@dataclass(frozen=True, slots=True)
class TlsFolders:
    """Where launched workers have their files: a folder for each cell, which it alone should be able to read."""

    folder: Path
    mutual: bool  # whether workers take certificates of routers only, which ca.crt must be of

    def of(self, cell_id: str) -> Path:
        """Return a cell's folder."""
        return self.folder / cell_id

    def variables(self, folder: Path) -> dict[str, str]:
        """Return the variables of a worker that sees its folder there."""
        names = {"CELL_TLS_CERT": "tls.crt", "CELL_TLS_KEY": "tls.key"}
        if self.mutual:
            names["CELL_TLS_CLIENT_CA"] = "ca.crt"
        return {name: str(folder / file) for name, file in names.items()}


class Tls:
    """A side's context. `renew` makes it anew when the files have changed; connections that exist stay."""

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles], ssl.SSLContext]) -> None:
        """Raises TlsError when a file can't be used."""
        self._files = files
        self._make = make
        self._stamps = files.stamps()
        self.context = make(files)

    def renew(self) -> bool:
        """Return whether there is a new context. Raises TlsError when the new files can't be used: the old one stays.

        That is raised once: the files are looked at again when they change again.
        """
        stamps = self._files.stamps()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        self.context = self._make(self._files)
        return True


def cell_host(cell_id: str, environment: str) -> str:
    """Return the name that a cell's certificate must have (subject alternative name, DNS)."""
    return f"{cell_id}.{environment}.cellrouter"


def of_cell(cell_id: str, environment: str, files: TlsFiles) -> Tls:
    """Make the TLS of a cell's worker; with `files.ca` its clients must present a certificate. Raises TlsError."""

    def make(files: TlsFiles) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER, files)
        if files.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        _refuse_unfit(files, cell_host(cell_id, environment))
        return context

    return Tls(files, make)


def of_caller(files: TlsFiles) -> Tls:
    """Make the TLS of a router or a controller, which presents its certificate if it has one. Raises TlsError."""

    def make(files: TlsFiles) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_CLIENT, files)  # it checks names and certificates
        if files.cert is not None:
            _refuse_unfit(files, None)
        return context

    return Tls(files, make)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.ca is not None:
        try:
            context.load_verify_locations(files.ca)
        except (OSError, ValueError) as error:
            raise TlsError(f"{files.ca} can't be used as authorities' certificates (PEM): {_why(error)}") from error
    if files.cert is not None:
        for path in filter(None, (files.cert, files.key)):
            _refuse_unreadable(path)
        try:
            # Without `password`, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(files.cert, files.key, password="")
        except (OSError, ValueError) as error:
            both = f"{files.cert} and {files.key} can't be used as a certificate and its key (PEM, no passphrase)"
            raise TlsError(f"{both}: {_why(error)}") from error
    return context


def _refuse_unreadable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsError(f"{path} can't be read: {error.strerror}") from error


def _refuse_unfit(files: TlsFiles, name: str | None) -> None:
    """Raise TlsError when the certificate is too old, too new, or not for this name: a handshake with ourselves tells.

    Python has no other way to read a certificate's dates and names.
    """
    assert files.cert is not None, "only a certificate can be unfit"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = name is not None
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is its authority here
    client.load_verify_locations(files.cert)
    try:
        _shake_hands(client, server, name)
    except ssl.SSLCertVerificationError as error:
        if (told := _TOLD.get(error.verify_code)) is not None:
            raise TlsError(f"{files.cert}: the certificate {told.format(name=name)}; issue a new one") from error


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str | None) -> None:
    """Let two contexts shake hands in memory. Raises SSLCertVerificationError as the client does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if found is not None else None
