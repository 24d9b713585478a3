"""The files of `examples/deploy`: they fit the server's options, one another, and the documents."""

import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from tests.redis_server import RedisServer

from channelstream.config import Loaded, Settings, check_safety, load_settings
from channelstream.supervisor import SPARE_S

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples/deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")


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
    """What a node of compose is set to, with secrets of some kind."""
    environ = dict(re.findall(r"^ +(CHANNELSTREAM_\w+): (.*)$", COMPOSE, re.MULTILINE))
    assert environ
    return load_settings(command("channelstream"), environ)


def location(text: str) -> str:
    [found] = re.findall(r"^    location / \{\n.*?^    \}$", text, re.MULTILINE | re.DOTALL)
    return str(found)


def test_compose_gives_a_node_options_that_exist() -> None:
    """And with which it may be served to strangers."""
    loaded = node()
    assert loaded.warnings == ()
    check_safety(loaded.settings)


def test_compose_builds_from_files_that_exist() -> None:
    """All that the project's own file names is copied into the image."""
    copied = " ".join(re.findall(r"^ +COPY (.*) /src/", COMPOSE, re.MULTILINE)).split()
    assert set(copied) == {"pyproject.toml", "README.md", "LICENSE", "src"}
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_nginx_knows_the_nodes_of_compose() -> None:
    """By their addresses, and they believe nobody but it."""
    nodes = re.findall(r"<<: \*node.*ipv4_address: ([\d.]+)", COMPOSE)
    [proxy] = set(re.findall(r"ipv4_address: ([\d.]+)", COMPOSE)) - set(nodes)
    assert re.findall(r"^    server (\S+) max_fails=0;$", NGINX, re.MULTILINE) == [
        f"{each}:8000" for each in nodes
    ]
    assert node().settings.trusted_proxies == (proxy,)


def test_nginx_takes_what_the_server_takes() -> None:
    """Its bound of a body is that of the server."""
    assert f"client_max_body_size {Settings().max_body_bytes >> 20}m;" in NGINX


def test_the_documents_show_the_shipped_location() -> None:
    """Word for word."""
    assert location((ROOT / "docs/deployment.md").read_text(encoding="utf-8")) == location(NGINX)


def test_nginx_reads_its_file(tmp_path: Path) -> None:
    """Where there is an nginx to ask."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("No nginx is here; on Debian: apt-get install nginx-light.")
    (tmp_path / "conf").write_text(NGINX.replace("listen 80;", f"listen unix:{tmp_path}/nginx.sock;"))
    kept = "\n".join(
        f"{kind}_temp_path {tmp_path};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off;\n{kept}\ninclude {tmp_path}/conf; }}\n"
    (tmp_path / "main").write_text(main)
    asked = [program, "-t", "-e", "stderr", "-c", str(tmp_path / "main")]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_redis_takes_what_compose_tells_it(tmp_path: Path) -> None:
    """And keeps every key."""
    server = RedisServer(tmp_path, *command("redis-server"))
    server.start()
    try:
        assert server.cli("CONFIG", "GET", "maxmemory-policy").splitlines()[1] == "noeviction"
    finally:
        server.kill()


def test_the_unit_starts_and_stops_the_server(tmp_path: Path) -> None:
    """Its flags are options, and it waits longer than any drain."""
    service = unit()["Service"]
    _, *flags = shlex.split(service["ExecStart"])
    (tmp_path / "settings.ini").write_text("[channelstream]\nport = 8001\n")
    argv = [str(tmp_path / "settings.ini") if flag == "/etc/channelstream.ini" else flag for flag in flags]
    settings = load_settings(argv, {}).settings
    assert settings.port == 8001
    assert float(service["TimeoutStopSec"]) > 2 * settings.drain_timeout_s + SPARE_S
    assert service["KillMode"] == "mixed"
