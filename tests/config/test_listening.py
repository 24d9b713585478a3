"""The address that a server announces."""

import errno
import socket

import pytest

from channelstream.config import Settings
from channelstream.config.app_section import AppSection
from channelstream.config.listening import address_of, announcements, refusal
from channelstream.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Settings(), "http://127.0.0.1:8000"),
        (Settings(host="::1", port=1, ssl_certfile="c.pem"), "https://[::1]:1"),
        (Settings(unix_socket="/run/c.sock"), "unix:/run/c.sock"),
    ],
)
def test_an_address_is_one_that_a_browser_takes(settings: Settings, address: str) -> None:
    """An address is one that a browser takes, or the path of the socket."""
    assert address_of(settings) == address


def test_the_pages_are_named_where_they_are_served() -> None:
    """The demo is named where it is served; the admin pages are, too, where a browser reaches them without a proxy."""
    running = "running on http://127.0.0.1:8000 (Ctrl-C ends it)"
    admin = "admin at http://127.0.0.1:8000/admin"
    assert list(announcements(Settings(trusted_proxies=("127.0.0.1",)))) == [running, admin]
    assert list(announcements(Settings())) == [running, f"demo at http://127.0.0.1:8000/demo, {admin}"]
    assert next(announcements(Settings(), "kill 7")) == "running on http://127.0.0.1:8000 (kill 7 ends it)"
    assert list(announcements(Settings(unix_socket="/s"))) == ["running on unix socket /s (Ctrl-C ends it)"]


def test_announces_further_applications() -> None:
    """And where they are."""
    apps = (AppSection("blog"), AppSection("shop"))
    assert list(announcements(Settings(demo=False, apps=apps)))[2:] == [
        "applications at http://127.0.0.1:8000/app/ID: blog, shop"
    ]


def test_announces_who_may_read_metrics_without_credentials() -> None:
    """Where `metrics_port` serves them: everybody who reaches it, or the addresses of `metrics_allow`."""
    open_to_all = Settings(demo=False, metrics_host="::1", metrics_port=9100)
    assert list(announcements(open_to_all))[2:] == [
        "metrics at http://[::1]:9100/metrics, without credentials, for everybody who reaches the port"
    ]
    *_, line = announcements(Settings(metrics_port=9100, metrics_allow=("10.0.0.0/8",)))
    assert line.endswith("without credentials, for the addresses of metrics_allow")


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (Settings(), OSError(errno.EADDRINUSE, ""), "port: .*:8000: Address already in use; .* -p$"),
        (Settings(port=80), OSError(errno.EACCES, ""), "port: .*:80: Permission denied; .* -p$"),
        (Settings(host="9.9.9.9"), OSError(errno.EADDRNOTAVAIL, ""), "host: .* Cannot assign .* -o$"),
        (Settings(host="x"), socket.gaierror(-2, "Name or service not known"), "host: .*not known; .* -o$"),
        (Settings(), OSError(errno.EMFILE, ""), "host: cannot listen on .*: Too many open files$"),
        (Settings(unix_socket="/s"), OSError(errno.EADDRINUSE, ""), "unix_socket: .* '/s': another server"),
    ],
)
def test_a_refusal_names_the_option_and_what_to_do(settings: Settings, error: OSError, said: str) -> None:
    """One sentence names the option, the address and what to do."""
    with pytest.raises(ConfigError, match=said):
        raise refusal(settings, error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileExistsError(errno.EEXIST, ""), "it exists, and is a link or no socket"),
        (OSError(errno.ENOENT, ""), "No such file or directory; make its directory"),
        (OSError(errno.EACCES, ""), "Permission denied; give the server the right to write"),
        (OSError(errno.EINVAL, ""), "Invalid argument"),
    ],
)
def test_faulty_path_of_a_socket(error: OSError, said: str) -> None:
    """A path at which no server can listen is a wrong option."""
    assert said in str(refusal(Settings(unix_socket="/s"), error))
