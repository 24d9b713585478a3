"""Settings that must not be served."""

from pathlib import Path

import pytest

from channelstream.config import Settings, check_safety, safety
from channelstream.config.app_section import AppSection
from channelstream.config.safety import problems
from channelstream.config.secret_values import PUBLIC_SECRETS
from channelstream.errors import ConfigError


@pytest.mark.parametrize("known", sorted(PUBLIC_SECRETS))
@pytest.mark.parametrize("name", ["secret", "admin_secret"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "", "example.com"])
def test_a_public_secret_is_refused_beyond_loopback(host: str, name: str, known: str) -> None:
    """A default, sample or empty secret is refused beyond loopback, with advice."""
    secrets = {"secret": "random-1", "admin_secret": "random-2", name: known}
    with pytest.raises(ConfigError, match=rf"^{name}: .*channelstream make-config"):
        check_safety(Settings(host=host, **secrets))  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [
    Settings(),
    Settings(host="::1", secret="", admin_secret=""),
    Settings(host="0.0.0.0", unix_socket="/run/c.sock"),
    Settings(host="0.0.0.0", secret="random-1", admin_secret="random-2"),
    Settings(host="0.0.0.0", secret="random-1", admin_secret="random-2", admin_reader_secret="random-3"),
    Settings(admin_reader_user="admin"),
    Settings(workers=2, engine="redis://10.0.0.5"),
])  # fmt: skip
def test_known_secrets_are_accepted_on_loopback_only(settings: Settings) -> None:
    """Known secrets are accepted on loopback and unix sockets, random ones everywhere."""
    check_safety(settings)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"admin_reader_secret": "random-2"}, "admin_reader_secret"),
        ({"admin_reader_secret": "secret"}, "admin_reader_secret"),
        ({"admin_reader_secret": "random-3", "admin_reader_user": "admin"}, "admin_reader_user"),
    ],
)
def test_a_reader_that_could_change_things(options: dict[str, str], name: str) -> None:
    """The second sign-in has a password and a name of its own, and no public password."""
    settings = Settings(host="0.0.0.0", secret="random-1", admin_secret="random-2", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        check_safety(settings)
    section = AppSection("shop", {"secret": "s", "admin_secret": "random-4", **options})
    if options["admin_reader_secret"] == "random-3":
        shop = Settings(host="0.0.0.0", secret="random-1", admin_secret="random-2", apps=(section,))
        assert [fault.split(" has ")[0] for fault in problems(shop)] == [f"{name}: [app:shop]"]


def test_a_key_needs_its_certificate_and_files_that_are_there(certificate: tuple[str, str]) -> None:
    """A key without a certificate, and paths of no file, are refused; files that are there are accepted."""
    assert list(problems(Settings(ssl_certfile=certificate[0], ssl_keyfile=certificate[1]))) == []
    faults = list(problems(Settings(ssl_keyfile="none.pem")))
    assert [fault.split(":")[0] for fault in faults] == ["ssl_keyfile", "ssl_keyfile"]


@pytest.mark.parametrize(
    ("host", "metrics_host"), [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("::1", "::")]
)
def test_one_port_for_two_listeners(host: str, metrics_host: str) -> None:
    """`metrics_port` must differ from `port` where the addresses are not two of the machine."""
    secrets = {"secret": "random-1", "admin_secret": "random-2"}
    settings = Settings(host=host, port=9000, metrics_host=metrics_host, metrics_port=9000, **secrets)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^metrics_port: 9000 is the same as port; take another one$"):
        check_safety(settings)


@pytest.mark.parametrize("settings", [
    Settings(port=9000, metrics_port=9001),
    Settings(port=0, metrics_port=0),
    Settings(port=9000, metrics_port=9000, unix_socket="/run/c.sock"),
    Settings(host="::1", port=9000, metrics_port=9000),
])  # fmt: skip
def test_two_listeners_at_two_addresses(settings: Settings) -> None:
    """Two ports, no port, a unix socket, or two addresses."""
    check_safety(settings)


@pytest.mark.parametrize("missing", ["channelstream_none", "channelstream.none", "channelstream_none.sub"])
def test_an_option_without_its_packages(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with the command that installs them, also where only a part is there."""
    monkeypatch.setattr(safety, "OTEL_MODULES", ("channelstream", missing))
    packages = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
    sentence = f"^otel: its packages are missing; install them with: pip install {packages}$"
    with pytest.raises(ConfigError, match=sentence):
        check_safety(Settings(otel=True))
    monkeypatch.setattr(safety, "OTEL_MODULES", ("channelstream", "channelstream.core.hub"))
    check_safety(Settings(otel=True))


def pusher(n: int, **other: str) -> dict[str, str]:
    return {"pusher_app_id": f"{n}", "pusher_key": f"key-{n}", "pusher_secret": f"random-{n}", **other}


@pytest.mark.parametrize(
    ("own", "of_shop", "faults"),
    [
        (pusher(8), pusher(9), []),
        (pusher(8), {}, []),
        ({"pusher_key": "key"}, {}, ["pusher_app_id: [channelstream] has none"]),
        (pusher(8), {"pusher_app_id": "9", "pusher_key": "k"}, ["pusher_secret: [app:shop] has none"]),
        (
            pusher(8),
            pusher(8),
            [
                f"{name}: [app:shop] and [channelstream] have the same one"
                for name in ("pusher_app_id", "pusher_key", "pusher_secret")
            ],
        ),
        *(
            (
                pusher(8, pusher_secret=example),
                {},
                ["pusher_secret: [channelstream] has one that is public"],
            )
            for example in ("app-secret", "a-long-random-secret")
        ),
    ],
)
def test_what_pushers_clients_need(own: dict[str, str], of_shop: dict[str, str], faults: list[str]) -> None:
    """All of it or nothing, in one application only, and no public secret."""
    shop = AppSection("shop", {"secret": "random-3", **of_shop})
    settings = Settings(host="0.0.0.0", secret="random-1", admin_secret="random-2", apps=(shop,), **own)  # type: ignore[arg-type]
    assert [fault.split(";")[0] for fault in problems(settings)] == faults


def test_the_older_secrets_of_pusher_are_examined(tmp_path: Path) -> None:
    """Each of a file is accepted, so none is public or another application's; webhooks are signed with the first."""
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text("random-8\napp-secret\nrandom-9\n")
    own = pusher(8, pusher_secret="", pusher_secret_file=str(file))
    shop = AppSection("shop", {"secret": "random-3", **pusher(9)})
    urls = ("https://a.example",)
    settings = Settings(
        host="0.0.0.0",
        secret="random-1",
        admin_secret="random-2",
        apps=(shop,),
        pusher_webhook_urls=urls,
        **own,
    )  # type: ignore[arg-type]
    assert [fault.split(";")[0] for fault in problems(settings)] == [
        "pusher_secret: [channelstream] has one that is public",
        "pusher_secret: [app:shop] and [channelstream] have the same one",
    ]


def test_a_public_secret_of_pushers_clients_on_loopback() -> None:
    """As any other one, it is good for a trial."""
    check_safety(Settings(**pusher(8, pusher_secret="kit-secret")))  # type: ignore[arg-type]
