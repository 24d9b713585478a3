"""Signed values of cookies."""

from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

from channelstream.core.signing import free_frames


def read_signed(signer: URLSafeTimedSerializer, text: str, max_age_s: int) -> Any:
    """Return what was signed; None if the signature is wrong or too old."""
    try:
        return signer.loads(text, max_age=max_age_s)
    except BadSignature as error:
        free_frames(error)
        return None
