"""Recognizes the heads of one caller, which differ in few values, so that only these are read again.

What is recognized is what `http_head.read_head` would read; anything else is left to it.
"""

import re
from typing import Final, NamedTuple

from channelstream.core.http_head import LENGTH, RequestHead

_LENGTH_NAME: Final = b"content-length"
CHANGING: Final = frozenset(
    {
        _LENGTH_NAME,
        b"baggage",
        b"date",
        b"idempotency-key",
        b"traceparent",
        b"tracestate",
        b"x-amzn-trace-id",
        b"x-correlation-id",
        b"x-request-id",
    }
)
"""Fields to which callers, and proxies in front, give another value in each request. Neither who serves a request nor for
whom it acts depends on them (`http.request.Request.again`)."""
_CHANGING_FIELD: Final = re.compile(rb"\r\n(%b):[ \t]*+([^\r]*+)" % b"|".join(CHANGING), re.IGNORECASE)
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")


class HeadForm(NamedTuple):
    """What the heads of several requests have in common: all but the values of `CHANGING`.

    Attributes:
        texts: what is before, between and after these values.
        fields: the field of each value: its index among the headers, and its name.
    """

    texts: list[bytes]
    fields: list[tuple[int, bytes]]


def are_alike(head: RequestHead, other: RequestHead) -> bool:
    """Whether two heads differ in values of `CHANGING` only, as far as their paths and headers say."""
    if head.raw_path != other.raw_path or len(head.headers) != len(other.headers):
        return False
    for field, before in zip(head.headers, other.headers, strict=True):
        if field != before and field[0] not in CHANGING:
            return False
    return True


def form_of(data: bytes, head: RequestHead) -> HeadForm:
    """Return the form of a head; no other head has it where the headers are not those of the lines, or repeat a name.

    Args:
        data: its bytes.
        head: what `read_head` has returned for it.
    """
    form, at = HeadForm([], []), 0
    # With a host in its target it has other headers than lines.
    if len(head.first) == len(head.headers) and b" /" in data[: data.index(b"\r\n")]:
        for field in _CHANGING_FIELD.finditer(data):
            form.texts.append(data[at : field.start(2)])
            form.fields.append((data.count(b"\r\n", 0, field.start()), field[1].lower()))
            at = field.end()
    form.texts.append(data[at:])
    return form


def in_form(data: bytes, form: HeadForm, before: RequestHead) -> RequestHead | None:
    """Return what is read of a head with the form of an earlier one; None if it has another form, or breaks RFC 9112.

    Args:
        data: its bytes.
        form: of the earlier one.
        before: what was read of that one.
    """
    if not data.startswith(form.texts[0]):
        return None
    at = len(form.texts[0])
    headers, first, body_bytes = before.headers.copy(), dict(before.first), before.body_bytes
    for (index, name), text in zip(form.fields, form.texts[1:], strict=True):
        end = data.find(b"\r\n", at)
        if not (end >= 0 and data.startswith(text, end) and _VALUE.fullmatch(data, at, end)):
            return None
        value = data[at:end].strip()
        if name == _LENGTH_NAME:
            if LENGTH.fullmatch(value) is None:
                return None
            body_bytes = int(value)
        headers[index] = (name, value)
        first[name] = value
        at = end + len(text)
    if at != len(data):
        return None
    # As `_replace` of headers, first and body_bytes, which takes four times as long.
    return RequestHead._make((*before[:5], headers, first, body_bytes, *before[8:]))
