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
                return f"no answer: {no_address(cause)}"
            case ConnectionRefusedError():
                return "no answer: nothing listens at its address"
            case TimeoutError():
                return "no answer in time"
    return f"no answer ({type(error).__name__})"


def no_address(error: Exception) -> str:
    """Return why the name of a server has led to no address."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "its name cannot be looked up now"
    return "its name has no address"


def _causes(error: BaseException | None) -> Iterator[Any]:
    """Yield an error and what led to it; of several attempts the first."""
    while error is not None:
        yield error
        led = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        error = led or error.__context__
