"""`doctor` finds what is wrong in real files, in Redis and in options; a made file has no finding."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.doctor.report import Doctor, configured, made_certificate
from tests.closed_folder import closed_folder
from tests.redis_server import RedisServer

from channelstream.cli import main
from channelstream.cli.doctor import files, redis
from channelstream.cli.doctor.finding import Check, Finding, Subject, examine
from channelstream.config import Settings
from channelstream.descriptors import reserved_descriptors
from channelstream.engines import factory


def test_a_made_file_has_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each check that applies is named, and the last line counts."""
    path = str(tmp_path / "made.ini")
    assert main(["make-config", "-o", path], {}) == 0
    capsys.readouterr()
    assert main(["doctor", "--config-only", "-i", path], {}) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert last == f"fault: 0, warning: 0, ok: {len(lines)}"


def test_weak_secrets_of_applications_are_found(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "apps.ini"
    path.write_text(
        "[channelstream]\n[app:shop]\nsecret = short\nadmin_secret = tiny\n[app:blog]\nsecret = long enough, at last\n"
    )
    report = doctor("--config-only", "-i", str(path))
    assert report.has("fault", "secrets", "[app:shop] secret has fewer than 16 characters")
    assert report.has("warning", "secrets", "[app:shop] admin_secret has fewer than 16 characters")
    assert "[app:blog]" not in report.text


def test_public_secrets_of_applications_are_found(tmp_path: Path, doctor: Doctor) -> None:
    """As those of the default one: they are a fault behind a proxy, and nothing is said of how short they are."""
    path = tmp_path / "apps.ini"
    path.write_text("[channelstream]\n[app:shop]\nsecret = YOURSECRET\nadmin_secret = secret\n")
    for level, flags in (("warning", ()), ("fault", ("--trusted-proxies", "127.0.0.1"))):
        report = doctor("--config-only", "-i", str(path), *flags)
        assert report.has(level, "secrets", "[app:shop] secret has a public default value")
        assert report.has(level, "secrets", "[app:shop] admin_secret has a public default value")
        assert "fewer than" not in report.text


def test_what_an_application_admits_is_examined(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "apps.ini"
    path.write_text(
        "[channelstream]\nenforce_https = yes\n[app:shop]\nsecret = long enough, at last\n"
        "admin_secret = long enough, at last\nraw_secret_in_query = always\nallow_cors = http://shop.example\n"
        "[app:blog]\nsecret = long enough, as well\n"
    )
    report = doctor("--config-only", "-i", str(path))
    assert report.has("warning", "callers", "[app:shop] raw_secret_in_query is always")
    assert report.has("warning", "https", "[app:shop] allow_cors has http://shop.example")
    assert report.has("fault", "secrets", "[app:shop] secret and admin_secret are equal")
    assert "[app:blog]" not in report.text


def test_weak_secrets_in_an_open_file_are_found_and_not_shown(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "open.ini"
    path.write_text(
        "[channelstream]\nsecret = hunter2hunter2\nadmin_secret = hunter2hunter2\ncookie_secret = salt-x\n"
    )
    path.chmod(0o644)
    report = doctor("--config-only", "-i", str(path), "--admin-reader-secret", "peep", secrets=())
    assert report.code == 1
    assert report.has("fault", "secrets", "secret has fewer than 16 characters")
    assert report.has("warning", "secrets", "admin_secret has fewer than 16 characters")
    assert report.has("warning", "secrets", "admin_reader_secret has fewer than 16 characters")
    assert report.has("fault", "secrets", "cookie_secret has fewer than 16 characters")
    assert report.has("fault", "secrets", "secret and admin_secret are equal")
    assert report.has("fault", "file modes", f"{path}, which has secrets: mode 644")
    assert "hunter2" not in report.text
    assert "salt-x" not in report.text
    path.chmod(0o660)
    assert doctor("--config-only", "-i", str(path), secrets=()).has("warning", "file modes", "mode 660")


def test_secrets_that_0_7_read_otherwise_are_found_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `%%` and `%(name)s`; not a lone `%`, with which 0.7 did not start, nor what another source overrides."""
    path = tmp_path / "old.ini"
    path.write_text(
        "[channelstream]\nhost = 127.0.0.1\nsecret = hunter%%hunter%%hunter\n"
        "admin_secret = hunter%(host)s-hunter\ncookie_secret = hunter%hunter%%hunter\n"
    )
    path.chmod(0o600)
    said = "0.7 read another value of"
    for command in (["doctor", "--config-only"], ["check-config"]):
        assert main([*command, "-i", str(path)], {}) == 0
        shown = "".join(capsys.readouterr())
        assert (
            shown.count(f"{said} secret in this file")
            == shown.count(f"{said} admin_secret in this file")
            == 1
        )
        assert shown.count(said) == 2
        assert "hunter" not in shown
        overridden = {"CHANNELSTREAM_SECRET": "s" * 20, "CHANNELSTREAM_ADMIN_SECRET": "a" * 20}
        assert main([*command, "-i", str(path)], overridden) == 0
        assert said not in "".join(capsys.readouterr())


def test_keys_that_are_not_accepted_are_found(doctor: Doctor, tmp_path: Path) -> None:
    """A file that the server cannot use is a fault of the options."""
    path, secret = tmp_path / "keys.json", "hunter2" * 6
    expired = {"id": "over", "secret": secret, "not_after": "2020-01-01T00:00:00Z"}
    path.write_text(
        json.dumps({"keys": [{"id": "good", "secret": secret}, {"id": "short", "secret": "x"}, expired]})
    )
    path.chmod(0o600)
    report = doctor("--config-only", "--keys-file", str(path))
    assert report.has("warning", "secrets", "the key 'short' is weak")
    assert report.has("warning", "secrets", "the key 'over' is expired")
    assert "good" not in report.text
    assert "hunter2" not in report.text
    path.chmod(0o644)
    report = doctor("--config-only", "--keys-file", str(path))
    assert report.has("fault", "options", "keys_file: every user of the machine")
    assert report.has("fault", "file modes", f"{path}, which has secrets: mode 644")


@pytest.mark.parametrize(
    ("flags", "level", "text"),
    [
        ((), "warning", "secret has a public default value"),
        (("--trusted-proxies", "127.0.0.1"), "fault", "secret has a public default value"),
        (("--url", "https://push.example"), "fault", "admin_secret has a public default value"),
    ],
)
def test_default_secrets_are_found(doctor: Doctor, flags: tuple[str, ...], level: str, text: str) -> None:
    """On loopback they are served, which is a fault only behind a proxy."""
    report = doctor("--config-only", *flags, secrets=())
    assert report.has(level, "secrets", text)
    assert report.code == (level == "fault")


@pytest.mark.parametrize(
    ("flags", "level", "check", "text"),
    [
        (("-o", "0.0.0.0", "-s", "secret"), "fault", "options", "secret: its default"),
        (("-o", "0.0.0.0"), "warning", "https", "host 0.0.0.0 has no TLS"),
        (("--enforce-https", "true"), "fault", "https", "every request is answered 406"),
        (
            ("--enforce-https", "true", "--trusted-proxies", "::1", "--allow-cors", "http://shop.example"),
            "warning",
            "https",
            "allow_cors has http://shop.example",
        ),
        (("--trusted-proxies", "0.0.0.0/0"), "fault", "callers", "trusted_proxies has every address"),
        (("--url", "https://push.example"), "warning", "callers", "trusted_proxies is empty"),
        (("--raw-secret-in-query", "always"), "warning", "callers", "raw_secret_in_query"),
        (("--metrics-allow", "0.0.0.0"), "warning", "callers", "/metrics"),
        (("--metrics-port", "9100", "--metrics-host", "0.0.0.0"), "warning", "callers", "/metrics"),
        (("--max-connections", "10000000"), "fault", "descriptors", "max_connections is 10000000"),
        (("--engine", "redis://127.0.0.1:1"), "warning", "secrets", "cookie_secret is empty"),
        (("--engine", "redis://u:pass-word@127.0.0.1:1"), "fault", "redis", "Redis cannot be used"),
        (("--engine", "redis://h:1/x"), "fault", "redis", "the number of the database is no number"),
        (
            ("--engine", "sqlite:////nonexistent/state.db"),
            "fault",
            "sqlite",
            "there is no directory /nonexistent",
        ),
        (("--port", "x"), "fault", "configuration", "port: 'x'"),
        (("--allow-posting-from", "x.x.x.x"), "warning", "configuration", "placeholder"),
    ],
)
def test_wrong_options_are_found(
    doctor: Doctor, flags: tuple[str, ...], level: str, check: str, text: str
) -> None:
    report = configured(doctor, *flags)
    assert report.has(level, check, text), report.text
    assert report.code == any(found[0] == "fault" for found in report.findings)
    assert "pass-word" not in report.text


def test_a_relative_path_of_sqlite_is_shown_as_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three slashes where an absolute path is meant: the advice writes the fourth."""
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--config-only", "--engine", "sqlite:///home/x.db"], {}) == 1
    shown = capsys.readouterr().out
    assert f"there is no directory {tmp_path}/home for the SQLite file" in shown
    assert "or write four slashes for /home/x.db: sqlite:////home/x.db" in shown


def test_a_sqlite_file_that_others_can_read_is_found(tmp_path: Path, doctor: Doctor) -> None:
    """A directory that only the server's user may enter protects it. One that the server has still to make is closed."""
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(0o755)
    engine = ("--engine", f"sqlite:///{directory / 'state.db'}")
    assert configured(doctor, *engine).findings == []
    file = directory / "state.db"
    file.touch()
    file.chmod(0o644)  # Whatever the umask of the run is.
    assert configured(doctor, *engine).has("fault", "sqlite", "every user of the machine may read")
    directory.chmod(0o700)
    assert configured(doctor, *engine).findings == []


@pytest.mark.parametrize("metrics_port", [0, 9100])
def test_descriptors_that_the_server_needs_itself_are_not_for_clients(metrics_port: int) -> None:
    """The server reduces `max_connections` by them."""
    most = 5_000
    limit = most + reserved_descriptors(Settings(metrics_port=metrics_port))
    enough, too_many = (
        list(files.too_few(limit, Settings(metrics_port=metrics_port, max_connections=count)))
        for count in (most, most + 1)
    )
    assert enough == []
    assert [finding.text for finding in too_many] == [
        f"max_connections is {most + 1}, and a process with {limit} descriptors takes {most}"
    ]


def test_certificates_in_files_are_examined(tmp_path: Path, doctor: Doctor) -> None:
    """One that is valid for long, and one with the key of another."""
    flags = made_certificate(tmp_path, 365)
    assert configured(doctor, *flags).findings == []
    first = Path(flags[1]).read_text()
    made_certificate(tmp_path, 365)
    Path(flags[1]).write_text(first)
    assert configured(doctor, *flags).has("fault", "options", "is not the key of the certificate")


def test_a_file_with_secrets_of_pusher_is_examined(
    tmp_path: Path, doctor: Doctor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who may read it, whether it is there, and how long its secrets are."""
    file = tmp_path / "secret"
    flags = ("--pusher-app-id", "1", "--pusher-key", "k", "--pusher-secret-file", str(file))
    assert main(["check-config", *flags], {}) != 0
    assert "pusher_secret_file" in capsys.readouterr().err
    file.write_text("a secret that is long enough\nshort\n")
    file.chmod(0o620)
    report = configured(doctor, *flags)
    assert report.has("warning", "file modes", f"the group of {file} may change it")
    assert report.has("fault", "secrets", "pusher_secret has fewer than 16 characters")


def test_another_shared_engine_is_not_asked_as_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(factory.REDIS, form="other://host", pattern="other://.+")
    monkeypatch.setattr(factory, "ENGINES", (*factory.ENGINES, other))
    applies = {
        engine: redis.uses_redis(Subject(Settings(engine=engine)))
        for engine in ("memory", "other://h", "redis://h", "unix:///s")
    }
    assert factory.is_shared("other://h")
    assert applies == {"memory": False, "other://h": False, "redis://h": True, "unix:///s": True}


@pytest.fixture
def evicting_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", "--save", "", "--maxmemory-policy", "allkeys-lru")
    server.start()
    yield server
    server.kill()


def configure(server: RedisServer, name: str, value: str) -> None:
    assert server.cli("CONFIG", "SET", name, value) == "OK", "Redis has not answered"


@pytest.mark.slow
def test_a_redis_that_may_lose_data_is_found(doctor: Doctor, evicting_redis: RedisServer) -> None:
    """Once it is configured as docs/engines.md asks, nothing is found."""
    engine = ("--engine", evicting_redis.address, "--cookie-secret", "a-cookie-secret-of-the-tests")
    configure(evicting_redis, "client-output-buffer-limit", "pubsub 1048576 524288 60")
    report = configured(doctor, *engine)
    assert report.has("fault", "redis", "maxmemory-policy is allkeys-lru")
    assert report.has("warning", "redis", "client-output-buffer-limit pubsub is 1048576 bytes")
    assert report.has("warning", "redis", "keeps nothing on a disk")
    configure(evicting_redis, "maxmemory-policy", "noeviction")
    configure(evicting_redis, "client-output-buffer-limit", "pubsub 33554432 8388608 60")
    configure(evicting_redis, "save", "3600 1")
    assert configured(doctor, *engine).findings == []


GOOD_INFO = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "role": "master",
    "aof_enabled": "1",
}


@pytest.mark.parametrize(
    ("info", "config", "text"),
    [
        ({"redis_version": "6.0.16"}, {"save": ""}, "Redis has version 6.0.16"),
        ({"role": "slave"}, {"save": ""}, "is a replica"),
        ({"aof_last_write_status": "err"}, {"save": ""}, "cannot write its data"),
        ({"connected_slaves": "1"}, {"min-replicas-to-write": "0"}, "cut off from its replicas"),
        ({"cluster_enabled": "1"}, {"cluster-require-full-coverage": "yes"}, "all others refuse calls"),
        ({}, {}, "does not let its configuration be read"),
    ],
)
def test_what_redis_says_is_understood(info: dict[str, str], config: dict[str, str], text: str) -> None:
    report = redis.Report(GOOD_INFO | info, config)
    [finding] = redis.findings(report, Settings().max_body_bytes)
    assert text in finding.text


def test_a_check_that_takes_too_long_is_given_up() -> None:
    async def forever(_: Subject) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    [result] = asyncio.run(examine(Subject(Settings()), [Check("slow", forever, timeout_s=0.01)]))
    assert result.finding.text == "there is no result within 0.01 s"


@pytest.mark.parametrize("flags", [("--node", "ftp://x"), ("--url", "x"), ("--wait-s", "0"), ("--nod", "x")])
def test_a_wrong_command_line_is_refused(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]) -> None:
    assert main(["doctor", *flags], {}) == 2
    assert capsys.readouterr().err.startswith("channelstream: ")


def test_files_that_this_user_may_not_reach(tmp_path: Path) -> None:
    """Nothing is found of what the server's user cannot see, and a folder of SQLite must be open to it."""
    with closed_folder(tmp_path) as folder:
        path = str(folder / "channelstream.ini")
        subject = Subject(Settings(ssl_keyfile=path, engine=f"sqlite:///{folder}/inner/state.db"), ini=path)
        assert not files.has_private_files(subject)
        assert asyncio.run(files.modes(subject)) == []
        [found] = asyncio.run(files.sqlite(subject))
    assert found.text == f"this user may not write in {folder}/inner"
