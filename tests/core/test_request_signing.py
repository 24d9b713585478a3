"""Signatures over whole requests: the vectors, and what is no signature."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.request_signing import (
    SCHEME,
    RequestSignature,
    digest_header,
    hash_of,
    read_digest,
    sign,
    signed_text,
)

VECTORS = json.loads((Path(__file__).parents[2] / "spec/vectors/signing.json").read_text("utf-8"))
PARAMETERS = f"key=web-1, ts=1800000000, nonce={'n' * 16}, sig={'0' * 64}"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_requests_are_signed_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """The text, the header that signs it, and what a server reads of it."""
    target, body = vector["target"].encode(), vector["body"].encode()
    signed = (vector["method"], target, vector["ts"], vector["nonce"])
    assert signed_text(*signed, hash_of(body)).decode() == vector["text"]
    assert sign(vector["key"], vector["secret"], *signed, body) == vector["authorization"]
    assert digest_header(body) == vector["digest"]
    read = RequestSignature.read(vector["authorization"].removeprefix(f"{SCHEME} "))
    assert read is not None
    assert (read.key_id, read.signed_s, read.nonce) == (vector["key"], vector["ts"], vector["nonce"])
    assert read.header == vector["authorization"]
    assert read.is_genuine(vector["secret"], vector["method"], target, hash_of(body))


def is_genuine(signature: RequestSignature, secret: str, method: str, target: bytes, body: bytes) -> bool:
    return signature.is_genuine(secret, method, target, hash_of(body))


@pytest.mark.parametrize(
    "other",
    [
        {"secret": "another secret"},
        {"method": "PATCH"},
        {"target": b"/messages"},
        {"target": b"/message?user=ann"},
        {"body": b"{ }"},
        {"body": b""},
    ],
)
def test_a_signature_is_good_for_one_request_only(other: dict[str, Any]) -> None:
    """Each part of it is bound."""
    request = {"secret": "the secret", "method": "POST", "target": b"/message", "body": b"{}"}
    header = sign("", signed_s=1_800_000_000, nonce="n" * 16, **request)  # type: ignore[arg-type]
    read = RequestSignature.read(header.removeprefix(f"{SCHEME} "))
    assert read is not None
    assert is_genuine(read, **request)
    assert not is_genuine(read, **{**request, **other})


@pytest.mark.parametrize(("one", "other"), [("ts=1800000000", "ts=1800000001"), ("n" * 16, "m" * 16)])
def test_time_and_nonce_are_bound(one: str, other: str) -> None:
    """A thief who changes them has no signature."""
    header = sign("web", "the secret", "GET", b"/info", 1_800_000_000, "n" * 16, b"")
    changed = RequestSignature.read(header.replace(one, other).removeprefix(f"{SCHEME} "))
    assert changed is not None
    assert not changed.is_genuine("the secret", "GET", b"/info", hash_of(b""))


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("key=web-1", "key=web.1"),
        ("key=web-1", f"key={'k' * 65}"),
        ("key=web-1, ", ""),
        ("ts=1800000000", "ts=0180000000"),
        ("ts=1800000000", "ts=-1"),
        ("ts=1800000000", "ts=1800000000.5"),
        ("ts=1800000000", "ts=١٨٠٠٠٠٠٠٠٠"),
        ("ts=1800000000", "ts=1800000000000"),
        ("n" * 16, "n" * 15),
        ("n" * 16, "n" * 65),
        ("n" * 16, "n" * 15 + "+"),
        ("0" * 64, "0" * 63),
        ("0" * 64, "0" * 65),
        ("0" * 64, "A" * 64),
        (", ", ";"),
        ("sig=", 'sig="'),
        ("key=", "KEY="),
        ("nonce=", "nonce=n, nonce="),
    ],
)
def test_a_header_has_one_form(part: str, other: str) -> None:
    """Whatever else could be read in two ways is no signature."""
    assert RequestSignature.read(PARAMETERS) is not None
    assert part in PARAMETERS
    assert RequestSignature.read(PARAMETERS.replace(part, other, 1)) is None


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """A stranger's header never fails."""
    assert RequestSignature.read(text) is None or text.startswith("key=")


def test_a_digest_is_read_as_it_is_written() -> None:
    """RFC 9530, appendix B: the SHA-256 of a body; another hash, and a list of several, are none that counts."""
    body = b'{"hello": "world"}\n'
    assert digest_header(body) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert read_digest(digest_header(body).encode()) == hash_of(body)
    for value in (
        b"",
        b"sha-256=::",
        b"sha-512=:AAAA=:",
        digest_header(body).encode() + b", sha-512=:AAAA=:",
        b"sha-256=:\xff:",
    ):
        assert read_digest(value) is None
