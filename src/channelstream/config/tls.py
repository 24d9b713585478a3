"""What TLS is made of: the server's certificate and key, and what a client trusts. Each fault is one sentence."""

import ssl
from pathlib import Path

from channelstream.config.settings import Settings
from channelstream.errors import ConfigError

_ENCRYPTED = "ssl_keyfile: the key in {!r} is encrypted, and the server cannot ask for its password: name a key without one"


class _PasswordWanted(Exception):
    """The key is encrypted."""


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """What a server shows of itself; None where it serves no TLS.

    Raises:
        ConfigError: the files are not there, or hold no certificate with its key.
    """
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key or None, _no_password)
    except _PasswordWanted as error:
        raise ConfigError(_ENCRYPTED.format(key or certificate)) from error
    except OSError as error:
        # An SSLError is one: the files are there, but hold no certificate or another's key.
        raise ConfigError(_fault(certificate, key, error)) from error
    return context


def client_context(certificate: str) -> ssl.SSLContext:
    """What a client trusts: the system's authorities, and those, or the very certificate, that a file holds.

    Args:
        certificate: path of the file; empty means none.

    Raises:
        ConfigError: it cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    if certificate:
        try:
            context.load_verify_locations(certificate)
        except OSError as error:
            raise ConfigError(f"ssl_certfile: {_unusable(certificate, error)}") from error
        # A server's own certificate is trusted as it stands, whoever has signed it.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def _no_password() -> str:
    raise _PasswordWanted


def _fault(certificate: str, key: str, error: OSError) -> str:
    if not _holds(certificate, "CERTIFICATE-----"):
        return f"ssl_certfile: {_unusable(certificate, error)}"
    if not key and not _holds(certificate, "PRIVATE KEY-----"):
        return f"ssl_keyfile: {certificate!r} holds a certificate without its key: name the key's file"
    if key and not _holds(key, "PRIVATE KEY-----"):
        return f"ssl_keyfile: {_unusable(key, error, 'key')}"
    return (
        f"ssl_keyfile: {key or certificate!r} is not the key of the certificate in {certificate!r}: {error}"
    )


def _holds(path: str, mark: str) -> bool:
    try:
        return mark in Path(path).read_text(errors="replace")
    except OSError:
        return False


def _unusable(path: str, error: OSError, wanted: str = "certificate") -> str:
    try:
        Path(path).read_bytes()
    except OSError as unreadable:
        return f"{path!r} cannot be read: {unreadable.strerror}"
    return f"{path!r} holds no PEM {wanted} that can be used: {error}"
