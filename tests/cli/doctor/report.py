"""What `doctor` reports, and what its tests share."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ADMIN_SECRET, SECRET

from channelstream.cli.doctor.finding import Level, Subject, examine
from channelstream.cli.doctor.tables import OF_CONFIGURATION, OF_SERVICE

SECRETS = ("-s", SECRET, "-a", ADMIN_SECRET)
PATIENT = ("--wait-s", "30")
"""For all first bytes that arrive: however slow the machine is."""


@dataclass(frozen=True, slots=True)
class Report:
    """What doctor has printed."""

    code: int
    text: str

    @property
    def findings(self) -> list[tuple[str, str, str]]:
        """Level, check and text of what is not all right."""
        rows = json.loads(self.text)["findings"]
        return [(row["level"], row["check"], row["text"]) for row in rows if row["level"] != "ok"]

    def has(self, level: str, check: str, text: str) -> bool:
        return any((level, check) == found[:2] and text in found[2] for found in self.findings)


Doctor = Callable[..., Report]


def configured(doctor: Doctor, *argv: str) -> Report:
    return doctor("--config-only", *argv)


def made_certificate(directory: Path, days: int) -> tuple[str, ...]:
    """Flags of a certificate for 127.0.0.1 that expires after so many days."""
    cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", str(days)]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return ("--ssl-certfile", cert, "--ssl-keyfile", key)


def texts(subject: Subject, *names: str) -> list[str]:
    """Run checks of the table by their names, and return what is not all right."""
    checks = [check for check in OF_CONFIGURATION + OF_SERVICE if check.name in names]
    results = asyncio.run(examine(subject, checks))
    return [each.finding.text for each in results if each.finding.level is not Level.OK]
