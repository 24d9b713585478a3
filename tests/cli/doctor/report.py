"""What `doctor` reports, and what its tests share."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
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
    """Flags of a certificate for 127.0.0.1 that expires after so many days; OpenSSL 3.6 makes none of -1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=127.0.0.1")
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=days))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, SHA256())
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.touch(0o600)  # as doctor asks for
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return ("--ssl-certfile", str(cert_file), "--ssl-keyfile", str(key_file))


def texts(subject: Subject, *names: str) -> list[str]:
    """Run checks of the table by their names, and return what is not all right."""
    checks = [check for check in OF_CONFIGURATION + OF_SERVICE if check.name in names]
    results = asyncio.run(examine(subject, checks))
    return [each.finding.text for each in results if each.finding.level is not Level.OK]
