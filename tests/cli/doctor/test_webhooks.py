"""`doctor` finds receivers of webhooks that are not called, cannot be reached, or whose secrets others know."""

import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.doctor.report import Doctor, configured, texts
from tests.webhook_receiver import SECRET as RANDOM
from tests.webhook_receiver import webhook_receiver

from channelstream.cli import main
from channelstream.cli.doctor.finding import Subject
from channelstream.config import Settings

SAMPLE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TYPED = "whsec_" + b64encode(b"secret" * 6).decode()


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        (SAMPLE, "webhook_secret of application default is that of an example"),
        (f"{RANDOM} {SAMPLE}", "webhook_secret of application default is that of an example"),
        (TYPED, "webhook_secret of application default can be guessed"),
    ],
)
def test_a_secret_that_others_may_know(doctor: Doctor, secret: str, text: str) -> None:
    """It is not shown."""
    report = configured(doctor, "--webhook-urls", "https://127.0.0.1:9/", "--webhook-secret", secret)
    assert report.has("fault", "webhooks", text)
    assert secret not in report.text


def test_a_secret_of_two_applications(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "apps.ini"
    own = f"webhook_urls = https://127.0.0.1:9/\nwebhook_secret = {RANDOM}\n"
    path.write_text(f"[channelstream]\n{own}[app:shop]\nsecret = long enough, at last\n{own}")
    report = configured(doctor, "-i", str(path))
    assert report.has("fault", "webhooks", "the applications default and shop have the same webhook_secret")
    assert RANDOM not in report.text


@pytest.mark.parametrize("url", ["http://app.example/?token=x", "http://8.8.8.8/"])
def test_a_url_without_tls_is_reported(url: str) -> None:
    """Without the query, which may have a secret."""
    label = url.partition("?")[0]
    assert texts(_subject(url, ""), "webhooks") == [f"{label} has no TLS: webhooks can be read on the way"]


@pytest.mark.parametrize(("url", "networks"), [("http://10.1.2.3/", "10.9.0.0/16"), ("https://[::1]/", "")])
def test_urls_that_are_not_called(capsys: pytest.CaptureFixture[str], url: str, networks: str) -> None:
    """`check-config` says so as well."""
    argv = ["--webhook-urls", url, "--webhook-secret", RANDOM, "--webhook-networks", networks]
    assert main(["check-config", "-s", "x" * 20, "-a", "y" * 20, *argv], {}) == 1
    assert f"fault: {url} is not called: its address is not public" in capsys.readouterr().err
    assert texts(_subject(url, networks), "webhooks") == [f"{url} is not called: its address is not public"]


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("https://app.example/", ""),
        ("http://localhost:5000/", ""),
        ("http://app:5000/", "172.16.0.0/12"),
        ("http://10.1.2.3/", "10.1.0.0/16"),
    ],
)
def test_good_urls_have_no_finding(url: str, networks: str) -> None:
    assert texts(_subject(url, networks), "webhooks") == []


def _subject(url: str, networks: str) -> Subject:
    return Subject(
        Settings(webhook_urls=(url,), webhook_secret=RANDOM, webhook_networks=tuple(networks.split()))
    )


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nothing listens, and which nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_receivers_are_connected_to(closed_port: int) -> None:
    """No call is made."""
    with webhook_receiver() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        assert texts(_subject(receiver.url, "127.0.0.1"), "webhook receivers") == []
        assert texts(_subject(receiver.url, ""), "webhook receivers") == [
            f"{receiver.url} is not called: its address is not public"
        ]
        [found] = texts(_subject(f"https://127.0.0.1:{port}/", "127.0.0.1"), "webhook receivers")
        assert found.startswith(f"https://127.0.0.1:{port}/ cannot be reached: ")
        assert receiver.calls == []
    refused = texts(_subject(f"http://127.0.0.1:{closed_port}/?token=x", "127.0.0.1"), "webhook receivers")
    assert refused == [f"http://127.0.0.1:{closed_port}/ cannot be reached: ConnectionRefusedError"]
    unknown = f"https://{'x' * 64}/"  # Longer than a label may be, so no resolver is asked.
    assert texts(_subject(unknown, ""), "webhook receivers") == [f"the name of {unknown} has no address here"]


def test_without_webhooks_there_is_nothing_to_examine(doctor: Doctor) -> None:
    assert "webhook" not in configured(doctor).text
