"""Reads the public keys of issuers from the files that the option `token_issuers` names."""

from channelstream.auth.issuer import PublicKeys
from channelstream.config.token_issuers import IssuerSource
from channelstream.errors import ConfigError
from channelstream.regular_file import CannotRead, read_regular


def keys_in_file(issuer: IssuerSource) -> PublicKeys | None:
    """Return the keys of an issuer; None if they are at an address, which is asked when a token comes.

    Raises:
        ConfigError: the file has none that can be used.
    """
    if not issuer.source.startswith("/"):
        return None
    # Here, as it needs the extra `tokens`.
    from channelstream.auth.public_keys import KEYS_BYTES, read_keys

    try:
        return read_keys(read_regular(issuer.source, KEYS_BYTES).text, issuer.algorithm)
    except (CannotRead, ValueError) as error:
        raise ConfigError(f"token_issuers: {issuer.source!r} cannot be used: {error}") from error
