"""What `doctor` says of a node that does not answer it, or not as a server does."""

import ssl

import pytest
from tests.cli.doctor.report import Doctor
from tests.cli.test_diagnosis import answering, http

from channelstream.cli import diagnosis
from channelstream.cli.doctor.asking import ANSWER_BYTES


def test_advice_about_a_certificate_names_the_flag_of_the_doctor() -> None:
    """`--ssl-certfile` is that of the server, here."""
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    found = diagnosis.explained("https://x", "x", error, "--node", "--trust")
    assert found.advice.endswith("with --trust")


@pytest.mark.parametrize(
    ("body", "check", "text"),
    [
        ("x" * (ANSWER_BYTES + 1), "probes", "with more than"),
        ("ok", "signed call", "its answer to /connect has another form"),
        ("<html>", "probes", "is not a channelstream server"),
        ("[" * 100_000, "probes", "is not a channelstream server"),
    ],
    ids=["long", "ok", "html", "nesting"],
)
def test_another_program_is_named(doctor: Doctor, body: str, check: str, text: str) -> None:
    """Whatever it answers, no traceback follows, and what is read of it has a bound."""
    with answering(http("200 OK", body)) as port:
        report = doctor("-p", str(port))
    assert report.has("fault", check, text)
