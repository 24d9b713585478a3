"""TLS contexts: the server's certificate and key, and the authorities that a client trusts."""

import ssl
from pathlib import Path

from channelstream.config.settings import Settings
from channelstream.errors import ConfigError

_ENCRYPTED = "ssl_keyfile: the key in {!r} is encrypted, and the server cannot ask for its password: name a key without one"


class _PasswordWanted(Exception):
    """The key is encrypted."""


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context of a server; None if it serves no TLS.

    Raises:
        ConfigError: a file is missing, or does not have a certificate with its key.
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
        # SSLError is an OSError: the files exist, but have no certificate, or the key of another one.
        raise ConfigError(_fault(certificate, key, error)) from error
    return context


def client_context(certificate: str) -> ssl.SSLContext:
    """Return the context of a client, which trusts the system's authorities and the certificates of a file.

    Args:
        certificate: path of the file; empty means none.

    Raises:
        ConfigError: the file cannot be read, or has no certificate.
    """
    context = ssl.create_default_context()
    if certificate:
        try:
            context.load_verify_locations(certificate)
        except OSError as error:
            raise ConfigError(f"ssl_certfile: {_unusable(certificate, error)}") from error
        # A server's own certificate is trusted by itself, without its authority.
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
