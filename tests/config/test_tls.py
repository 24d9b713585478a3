"""Certificates, keys, and their faults."""

import os
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.closed_folder import closed_folder

from channelstream.config import Settings
from channelstream.config.safety import problems
from channelstream.config.tls import client_context, server_context
from channelstream.errors import ConfigError

Files = Callable[..., Settings]


@pytest.fixture
def files(certificate: tuple[str, str], tmp_path: Path) -> Files:
    """Settings with a certificate file and a key file of the given content."""
    contents = {
        "cert": Path(certificate[0]).read_text(),
        "key": Path(certificate[1]).read_text(),
        "junk": "junk",
    }
    contents["both"] = contents["cert"] + contents["key"]
    for name, command in {
        "other": ["genpkey", "-algorithm", "ed25519"],
        "encrypted": ["pkey", "-in", certificate[1], "-aes256", "-passout", "pass:hunter2"],
    }.items():
        contents[name] = subprocess.run(
            ["openssl", *command], check=True, capture_output=True, text=True
        ).stdout
    paths = {"": "", "missing": str(tmp_path / "missing")}
    for name, text in contents.items():
        paths[name] = str(tmp_path / f"{name}.pem")
        Path(paths[name]).write_text(text)

    def made(cert: str, key: str) -> Settings:
        return Settings(ssl_certfile=paths[cert], ssl_keyfile=paths[key])

    return made


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("junk", "key", r"ssl_certfile: '.*/junk.pem' holds no PEM certificate that can be used: "),
        ("missing", "key", r"ssl_certfile: '.*/missing' cannot be read: No such file or directory"),
        ("cert", "", r"ssl_keyfile: '.*/cert.pem' holds a certificate without its key: name the key's file"),
        ("cert", "junk", r"ssl_keyfile: '.*/junk.pem' holds no PEM key that can be used: "),
        ("cert", "missing", r"ssl_keyfile: '.*/missing' cannot be read: "),
        ("cert", "other", r"ssl_keyfile: '.*/other.pem' is not the key of the certificate in '.*/cert.pem'"),
        ("cert", "encrypted", r"ssl_keyfile: the key in '.*/encrypted.pem' is encrypted, and the server "),
    ],
)
def test_a_refusal_names_the_option_and_the_file(files: Files, cert: str, key: str, said: str) -> None:
    """One sentence names the option and the file; a check of the configuration finds the same fault."""
    settings = files(cert, key)
    with pytest.raises(ConfigError, match=f"^{said}"):
        server_context(settings)
    [problem] = problems(settings)
    assert problem.startswith(said.partition(":")[0])


def test_a_key_is_in_its_own_file_or_beside_the_certificate(files: Files) -> None:
    """A key is in a file of its own, or beside the certificate."""
    assert server_context(files("cert", "key"))
    assert server_context(files("both", ""))
    assert server_context(Settings()) is None


def test_a_file_without_a_certificate_to_trust_is_named(files: Files) -> None:
    """A client names the unusable file."""
    with pytest.raises(ConfigError, match=r"^ssl_certfile: '.*' cannot be read: No such file"):
        client_context("/nonexistent.pem")
    with pytest.raises(ConfigError, match=r"^ssl_certfile: '.*junk.pem' holds no PEM certificate"):
        client_context(files("junk", "").ssl_certfile)


def test_a_certificate_is_trusted_by_itself(certificate: tuple[str, str], tmp_path: Path) -> None:
    """A server's own certificate is enough, and so is that of the authority which signed it; another's is not."""
    cert, key = str(tmp_path / "leaf.pem"), str(tmp_path / "leaf.key")
    names = [
        "-subj",
        "/CN=push",
        "-addext",
        "subjectAltName=DNS:push",
        "-addext",
        "basicConstraints=CA:FALSE",
    ]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signer = ["-CA", certificate[0], "-CAkey", certificate[1]]
    subprocess.run([*command, *names, *signer, "-keyout", key, "-out", cert], check=True, capture_output=True)
    server = server_context(Settings(ssl_certfile=cert, ssl_keyfile=key))
    assert server
    for trusted in (cert, certificate[0]):
        shake_hands(server, client_context(trusted))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client_context(""))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Carry the bytes of a handshake in both directions until both sides are done."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(down, up, server_hostname="push"),
        server.wrap_bio(up, down, server_side=True),
    ]
    while sides:
        for side in list(sides):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
                sides.remove(side)


def test_a_file_that_this_user_may_not_reach(tmp_path: Path) -> None:
    """As /etc/ssl/private is closed to the server's user: the refusal says so. A pipe is not opened."""
    with closed_folder(tmp_path) as folder:
        path = str(folder / "channelstream.ini")
        found = list(problems(Settings(ssl_certfile=path, ssl_keyfile=path)))
    assert found == [
        f"ssl_{kind}file: {path!r} cannot be read: Permission denied" for kind in ("cert", "key")
    ]
    os.mkfifo(tmp_path / "pipe")
    for no_file in (str(tmp_path / "pipe"), str(tmp_path), "a\0b"):
        [problem] = problems(Settings(ssl_certfile=no_file))
        assert problem == f"ssl_certfile: {no_file!r} is not the path of a file"
