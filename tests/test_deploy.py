"""The files of `examples/deploy`: they fit the server's options, one another, and the documents."""

import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from tests.config.reading import load_settings
from tests.recipe import stages
from tests.redis_server import RedisServer

from channelstream.config import Loaded, Settings, check_safety
from channelstream.health import health_routes
from channelstream.server import build
from channelstream.supervisor.supervisor import drain_bound_s
from channelstream.upgrade.control import patience_s

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples/deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
*_, IMAGE = stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
[UNDER_A_PATH] = re.findall(
    r"^### Under a path\n.*?^```nginx\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
)
"""The locations that take the place of those in the file."""
HAPROXY = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
MARGIN_S = 10
"""How much longer than a proxy the server keeps an idle connection: clocks and loops may be late."""


def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "channelstream.service", encoding="utf-8")
    return parser


def command(program: str) -> list[str]:
    """The arguments of a program that compose starts."""
    [line] = re.findall(rf"^ +command: {program} (.*)$", COMPOSE, re.MULTILINE)
    return shlex.split(line)


def node() -> Loaded:
    """Return the settings of a node of compose, with secrets of some kind."""
    environ = dict(re.findall(r"^ +(CHANNELSTREAM_\w+): (.*)$", COMPOSE, re.MULTILINE))
    assert environ
    return load_settings(command("channelstream"), IMAGE.environ | environ)


def location(path: str, rules: str = NGINX) -> dict[str, str]:
    """The headers that nginx sends from a location: its own, or all of the server where it has none."""
    [found] = re.findall(
        rf"^    location {re.escape(path)} \{{\n(.*?)^    \}}$", rules, re.MULTILINE | re.DOTALL
    )
    own = re.findall(r"^        proxy_set_header (\S+) (.*);$", found, re.MULTILINE)
    return dict(own or re.findall(r"^    proxy_set_header (\S+) (.*);$", rules, re.MULTILINE))


def test_compose_gives_a_node_options_that_exist() -> None:
    """And with which it may be served to strangers."""
    loaded = node()
    assert loaded.warnings == ()
    check_safety(loaded.settings)


def test_compose_builds_the_image_and_restricts_it() -> None:
    """Its nodes can write to /tmp only, and have longer to stop than a drain takes."""
    [context] = re.findall(r"^  build: (.*)$", COMPOSE, re.MULTILINE)
    assert (DEPLOY / context).resolve() == ROOT
    restrictions = re.findall(r"^  (read_only|tmpfs|cap_drop|security_opt): (.*)$", COMPOSE, re.MULTILINE)
    assert dict(restrictions) == {
        "read_only": "true",
        "tmpfs": '["/tmp:size=16m"]',
        "cap_drop": "[ALL]",
        "security_opt": '["no-new-privileges:true"]',
    }
    [grace_s] = re.findall(r"^  stop_grace_period: (\d+)s$", COMPOSE, re.MULTILINE)
    assert int(grace_s) > drain_bound_s(node().settings)


def test_nginx_knows_the_nodes_of_compose() -> None:
    """By their addresses, and they trust only nginx."""
    nodes = re.findall(r"<<: \*node.*ipv4_address: ([\d.]+)", COMPOSE)
    [proxy] = set(re.findall(r"ipv4_address: ([\d.]+)", COMPOSE)) - set(nodes)
    assert re.findall(r"^    server (\S+) max_fails=0;$", NGINX, re.MULTILINE) == [
        f"{each}:8000" for each in nodes
    ]
    assert node().settings.trusted_proxies == (proxy,)


def test_nginx_takes_what_the_server_takes() -> None:
    """Its bound of a body is that of the server."""
    assert f"client_max_body_size {Settings().max_body_bytes >> 20}m;" in NGINX


SOCKET = "~ ^((/app/[a-z0-9_-]+)?/ws|/app/[A-Za-z0-9_-]+)$"


def test_an_upgrade_is_passed_on_where_the_websocket_is() -> None:
    """Nowhere else, and for nothing else; the rest keeps its connections, and says the same of the caller."""
    socket, rest = location(SOCKET), location("/")
    assert (socket.pop("Upgrade"), socket.pop("Connection")) == ("$http_upgrade", "$connection_upgrade")
    assert rest.pop("Connection") == '""'
    assert socket == rest
    assert set(re.findall(r"^ +location (.*) \{$", NGINX, re.MULTILINE)) == {"/", SOCKET}
    [offers] = re.findall(
        r"^map \$http_upgrade \$connection_upgrade \{\n(.*?)\}$", NGINX, re.MULTILINE | re.DOTALL
    )
    assert [line.split() for line in offers.splitlines()] == [["default", "'';"], ["websocket", "upgrade;"]]
    assert re.findall("Upgrade.*", HAPROXY) == [
        "Upgrade unless { path_reg ^((/app/[a-z0-9_-]+)?/ws|/app/[A-Za-z0-9_-]+)$ } { hdr(Upgrade) -i websocket }"
    ]


def test_under_a_path_the_server_is_sent_the_same() -> None:
    """But for the path, which it knows from a header."""
    below = {"/": "/push/", SOCKET: SOCKET.replace("^(", "^/push(?<path>")}
    assert re.findall(r"^ +location (.*) \{$", UNDER_A_PATH, re.MULTILINE) == [*below.values()]
    for at_root, under_path in below.items():
        assert location(under_path, UNDER_A_PATH) == location(at_root) | {"X-Script-Name": "/push"}


def test_proxies_close_idle_connections_before_the_server_does() -> None:
    """Else a request that a proxy sends into a connection at its end is lost, and its client gets 502."""
    [nginx] = re.findall(r"^    keepalive_timeout (\d+)s;", NGINX, re.MULTILINE)
    [pool, delay] = re.findall(r"pool-max-conn (\d+) pool-purge-delay (\d+)s$", HAPROXY, re.MULTILINE)[0]
    halvings = int(pool).bit_length()
    for longest in (int(nginx), halvings * int(delay)):
        assert longest + MARGIN_S <= Settings().keep_alive_s


@pytest.mark.parametrize(
    "rules",
    [NGINX, NGINX[: NGINX.index("    location ")] + UNDER_A_PATH + "}\n"],
    ids=["as shipped", "under a path"],
)
def test_nginx_reads_its_file(rules: str, tmp_path: Path) -> None:
    """Where there is an nginx to ask."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("No nginx is here; on Debian: apt-get install nginx-light.")
    (tmp_path / "conf").write_text(rules.replace("listen 80;", f"listen unix:{tmp_path}/nginx.sock;"))
    kept = "\n".join(
        f"{kind}_temp_path {tmp_path};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off;\n{kept}\ninclude {tmp_path}/conf; }}\n"
    (tmp_path / "main").write_text(main)
    asked = [program, "-t", "-e", "stderr", "-c", str(tmp_path / "main")]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_haproxy_reads_its_file() -> None:
    """Where there is a haproxy to ask."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("No haproxy is here; on Debian: apt-get install haproxy.")
    done = subprocess.run([program, "-c", "-f", str(DEPLOY / "haproxy.cfg")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_proxies_know_the_same_nodes() -> None:
    """Those of compose."""
    nodes = re.findall(r"^    server (\S+) max_fails=0;$", NGINX, re.MULTILINE)
    assert re.findall(r"^    server node\d (\S+)$", HAPROXY, re.MULTILINE) == nodes


def test_redis_accepts_the_command_of_compose(tmp_path: Path) -> None:
    """And keeps every key."""
    server = RedisServer(tmp_path, *command("redis-server"))
    server.start()
    try:
        assert server.cli("CONFIG", "GET", "maxmemory-policy").splitlines()[1] == "noeviction"
    finally:
        server.kill()


def test_compose_waits_for_a_node_that_is_ready() -> None:
    """By the probe of the image."""
    paths = {route.path for route in health_routes(build(Settings()).node)}
    assert re.findall(r"^    PROBE: (.*)$", COMPOSE, re.MULTILINE) == ["/readyz"]
    assert {"/readyz", IMAGE.environ["PROBE"]} <= paths


def test_the_unit_waits_for_the_report_of_the_server() -> None:
    """And for no program that asks it at an address of its own."""
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert "ExecStartPost" not in service
    _, *start = shlex.split(service["ExecStart"])
    _, *reload = shlex.split(service["ExecReload"])
    assert reload == ["upgrade", *start]


def test_the_unit_starts_and_stops_the_server(tmp_path: Path) -> None:
    """Its flags are options, and it waits longer than any drain."""
    service = unit()["Service"]
    _, *flags = shlex.split(service["ExecStart"])
    (tmp_path / "settings.ini").write_text("[channelstream]\nport = 8001\n")
    argv = [str(tmp_path / "settings.ini") if flag == "/etc/channelstream.ini" else flag for flag in flags]
    settings = load_settings(argv, {}).settings
    assert settings.port == 8001
    assert float(service["TimeoutStopSec"]) > drain_bound_s(settings)
    assert service["KillMode"] == "mixed"


def test_the_unit_waits_for_a_shared_engine_and_for_an_upgrade() -> None:
    """Redis stops after the drain; a start is tried again without an end; a reload has as long as an upgrade."""
    read = unit()
    assert {"redis-server.service", "valkey-server.service"} <= {*read["Unit"]["After"].split()}
    assert (read["Unit"]["StartLimitIntervalSec"], read["Service"]["Restart"]) == ("0", "always")
    assert float(read["Service"]["TimeoutStartSec"]) > patience_s(Settings())


def analyzed(unit_file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What `systemd-analyze` says of a unit, where there is one to ask."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("No systemd-analyze is here; on Debian: apt-get install systemd.")
    command = [program, *arguments, str(unit_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("This systemd-analyze is older than version 250.")
    return done


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """With a program that exists here, it has no fault to report."""
    text = (DEPLOY / "channelstream.service").read_text(encoding="utf-8")
    installed = tmp_path / "channelstream.service"
    installed.write_text(text.replace("/opt/channelstream/.venv/bin/channelstream", "/bin/sh"))
    done = analyzed(installed, "verify", "--man=no")
    faults = [line for line in done.stderr.splitlines() if installed.name in line]
    assert (done.returncode, faults) == (0, [])


def test_the_unit_leaves_a_server_few_rights() -> None:
    """Of 10, which is a unit without restrictions, systemd gives it less than 3."""
    done = analyzed(
        DEPLOY / "channelstream.service", "security", "--offline=yes", "--no-pager", "--threshold=30"
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
