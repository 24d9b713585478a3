"""`doctor` asks issuers of tokens for their keys, as the server does when a token comes."""

from http import HTTPStatus

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.cli.doctor.report import Doctor, configured, texts
from tests.local_server import LocalHandler, LocalServer, running

from channelstream.cli.doctor.finding import Subject
from channelstream.config import Settings
from channelstream_client.testing.port import HeldPort

CHECK = "token issuers"
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


class Provider(LocalHandler):
    """An identity provider: it has a key at one path only."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK if self.path == "/keys" else HTTPStatus.NOT_FOUND)
        self.end_headers()
        self.wfile.write(KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_keys_are_read() -> None:
    """A key of another algorithm is of no use."""
    with running(LocalServer(Provider)) as server:
        assert _found(f"a ES256 {server.url}/keys") == []
        assert _found(f"a ES256 {server.url}/") == [
            "the keys of 'a' cannot be read: the answer has status 404"
        ]
        [other] = _found(f"a RS256 {server.url}/keys")
        assert other.startswith("the keys of 'a' cannot be read: ")


def test_an_address_where_nobody_answers(doctor: Doctor) -> None:
    with HeldPort() as port:
        issuer = f"a ES256 http://127.0.0.1:{port.number}/keys"
        report = configured(doctor, "--token-max-age-s", "60", "--token-issuers", issuer)
    assert report.has(
        "fault", CHECK, "the keys of 'a' cannot be read: no answer: nothing listens at its address"
    )


def test_without_tokens_nobody_is_asked(doctor: Doctor) -> None:
    report = configured(doctor, "--token-issuers", "a ES256 http://127.0.0.1:9/keys")
    assert CHECK not in report.text


def _found(issuer: str) -> list[str]:
    return texts(Subject(Settings(token_max_age_s=60, token_issuers=(issuer,))), CHECK)
