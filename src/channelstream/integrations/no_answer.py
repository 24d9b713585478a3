"""Why a request of the server had no answer, in words for an operator."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any


def no_answer(error: Exception) -> str:
    """Return why there was none: httpx and httpcore name a broken connection, and have the reason as its cause."""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"no answer: its certificate is not trusted ({cause.verify_message})"
            case ssl.SSLError(reason=str()):
                return f"no answer: TLS fails ({cause.reason})"
            case socket.gaierror():
                return "no answer: its name has no address"
            case ConnectionRefusedError():
                return "no answer: nothing listens at its address"
            case TimeoutError():
                return "no answer in time"
    return f"no answer ({type(error).__name__})"


def _causes(error: BaseException | None) -> Iterator[Any]:
    """Yield an error and what led to it; of several attempts the first."""
    while error is not None:
        yield error
        led = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        error = led or error.__context__
