"""Logging: formats, and redaction."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from itsdangerous import TimestampSigner
from tests.waiting import PATIENCE_S

from channelstream import logs
from channelstream.config import Settings
from channelstream.config.secret_file import read_secrets
from channelstream.config.sections.server import LogFormat
from channelstream.errors import ConfigError

SECRET = "correct-horse/battery"
SIGNATURE = TimestampSigner(SECRET).sign("/message").decode()
SETTINGS = Settings(secret=SECRET, admin_secret="staple-42", cookie_secret="cookie-42")

logger = logging.getLogger("channelstream.test")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


def log_failure(text: str, error: Exception, **extra: object) -> None:
    """Log an error as a handler of it would."""
    try:
        raise error
    except type(error):
        logger.exception("%s", text, extra=extra)


def test_an_event_is_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is one line with time, level, logger and text; line ends in the text are escaped."""
    logs.configure(SETTINGS)
    logger.info("hello %s", "two\nlines")
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO    channelstream.test: hello two\\nlines")


def test_an_event_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With log_format json an event is one object, extras and traceback included."""
    logs.configure(Settings(log_format="json"))
    log_failure("failed", ValueError("bad"), channel="news", count=3)
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event.pop("exception").endswith("ValueError: bad")
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "error", "logger": "channelstream.test", "message": "failed", "channel": "news", "count": 3,
    }  # fmt: skip


def test_human_traceback_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback follows its line, indented, so that a line at the margin is always an event."""
    logs.configure(SETTINGS)
    log_failure("failed", ValueError("bad"))
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    ValueError: bad"


@pytest.mark.parametrize("log_format", ["human", "json"])
@pytest.mark.parametrize(
    ("text", "leak"),
    [
        (f"secret is {SECRET}", SECRET),
        ("secret is correct-horse%2Fbattery", "correct-horse"),
        ("admin staple-42 and cookie-42", "-42"),
        ("GET /info?secret=abc&x=1", "abc"),
        ("GET /ws?since=&conn_id=abc HTTP/1.1", "abc"),
        ("GET /ws?conn_id=x'abc\"abc#abc HTTP/1.1", "abc"),
        ("GET /ws?conn%5Fid=abc HTTP/1.1", "abc"),
        ("GET /listen?abc HTTP/1.1", "abc"),
        ("GET /listen?x?conn_id=abc HTTP/1.1", "abc"),
        ("GET /admin/connection?name=abc HTTP/1.1", "abc"),
        ("GET /admin/data/users?search=abc+smith&sort=name HTTP/1.1", "smith"),
        ("{'conn_id': 'abc', 'username': 'x'}", "abc"),
        ("connect(conn_id='abc')", "abc"),
        ('{"secret":"abc"}', "abc"),
        ("no answer from redis://:abc@127.0.0.1:6379/0", "abc"),
        pytest.param(SIGNATURE, SIGNATURE.rpartition(".")[2], id="a signature"),
        ("x-channelstream-secret: short.sig", "short"),
        ("Authorization: Basic YWRtaW46eA==", "YWRt"),
        ("{'cookie': 'auth_tkt=abc; other=def'}", "def"),
        ("[(b'cookie', b'auth_tkt=abc'), (b'host', b'x')]", "abc"),
    ],
)  # fmt: skip
def test_no_secret_appears(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat, text: str, leak: str
) -> None:
    """Secrets, signatures and credentials are blotted out of texts, extras and errors."""
    logs.configure(
        Settings(secret=SECRET, admin_secret="staple-42", cookie_secret="cookie-42", log_format=log_format)
    )
    log_failure(text, ValueError(text), detail=text)
    written = capsys.readouterr().err
    assert leak not in written
    assert logs.BLOT in written


def test_secrets_in_a_file_do_not_appear(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nor older ones."""
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text(f"{SECRET}\nolder-horse\n")
    logs.configure(Settings(secret_file=str(file)))
    logger.info("%s and older-horse", SECRET)
    assert capsys.readouterr().err.strip().endswith(f"{logs.BLOT} and {logs.BLOT}")


def test_the_advice_about_a_file_of_secrets_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whatever the name of the file: what follows `secret':` would be a secret."""
    file = tmp_path / "channelstream.secret"
    file.write_text("older-horse\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError) as refusal:
        read_secrets(str(file), "secret_file")
    logs.configure(Settings())
    logger.info("%s", refusal.value)
    assert capsys.readouterr().err.strip().endswith(f"chmod 600 {file}")


def test_ordinary_text_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Words that are only default secrets, dotted names and versions are left as they are."""
    logs.configure(Settings())
    text = "the secret of channelstream.transports.websocket 1.0.0.dev0 at http://127.0.0.1:8000/info?since=a"
    logger.info(text)
    assert capsys.readouterr().err.strip().endswith(text)


def test_requests_are_logged_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the access log shows no secret of a query."""
    logs.configure(Settings(debug=True))
    logging.getLogger("channelstream.access").info('%s - "%s"', "127.0.0.1", "GET /info?secret=abc")
    assert capsys.readouterr().err.strip().endswith('127.0.0.1 - "GET /info?secret=***"')


def test_a_question_is_not_a_query(capsys: pytest.CaptureFixture[str]) -> None:
    """A hint at a similar option is shown with all that follows it."""
    logs.configure(Settings())
    text = "there is no option 'prot' (did you mean port?); ignored"
    logger.warning(text)
    assert capsys.readouterr().err.strip().endswith(text)


def test_own_requests_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """The HTTP client's line for each request shows only with debug."""
    logs.configure(SETTINGS)
    logging.getLogger("httpx").info("HTTP Request: POST")
    assert capsys.readouterr().err == ""
    logs.configure(Settings(debug=True))
    logging.getLogger("httpx").info("HTTP Request: POST")
    assert "HTTP Request: POST" in capsys.readouterr().err


def test_headers_of_answers_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even with debug: of an answer to a webhook only the status counts."""
    logs.configure(Settings(debug=True))
    logging.getLogger("httpcore.http11").debug("receive_response_headers.complete set-cookie")
    assert capsys.readouterr().err == ""


def test_the_level_decides_what_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Events below log_level are left out; debug shows them all."""
    logs.configure(Settings(log_level="warning"))
    logger.info("quiet")
    assert capsys.readouterr().err == ""
    logs.configure(Settings(log_level="warning", debug=True))
    logger.debug("loud")
    assert "loud" in capsys.readouterr().err


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """After a second call an event is still written once."""
    logs.configure(SETTINGS)
    logs.configure(SETTINGS)
    logger.info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_the_printable_parts_of_a_request_are_kept() -> None:
    """Its path, the names of parameters, and positions."""
    line = '127.0.0.1:5 - "GET /admin/data/users?since=1f-7&search=ann&page=&x&& HTTP/1.1" 200'
    shown = '127.0.0.1:5 - "GET /admin/data/users?since=1f-7&search=***&page=&***&& HTTP/1.1" 200'
    assert logs.Redactor(())(line) == shown


def test_a_secret_under_a_disguised_name_is_blotted_out() -> None:
    """A parameter's name may be spelled with percent signs and still be read as `secret`."""
    assert "hunter2" not in logs.Redactor(())("GET /info?%73ecret=hunter2&a=b")


ASKED = (
    "/admin/connection?name=personal-conn_id",
    "/admin/data/connection?name=personal-conn_id",
    "/admin/data/users?search=personal-search",
    "/admin/trace?connection=personal-conn_id",
    "/admin/trace?user=personal-ann",
    "/admin/sign_in?next=personal",
    "/ws?conn_id=personal-conn_id",
    "/sse?conn_id=personal",
    "/listen?conn%5Fid=personal",
    "/listen?personal-conn_id",
    "/listen?callback=personal()&conn_id=personal",
    "/nowhere?q=personal",
    "/demo?name=personal",
)


def test_requests_leave_nothing_secret_or_personal_in_the_log(start_server: Any) -> None:
    """Of a server that logs all it can: conn_ids, search texts, names, signatures, passwords."""
    server = start_server("--debug", "true", "--demo", "true")
    conn_id = server.connect("personal-ann", "personal-news", conn_id="personal-conn_id")
    signature = server.sign("/info")["x-channelstream-secret"]
    with httpx.Client(
        verify=False, base_url=server.url, auth=("admin", server.admin_secret), timeout=PATIENCE_S
    ) as admin:
        admin.cookies.set("auth_tkt", "personal-ticket")
        for path in (*ASKED, f"/info?secret={signature}", f"/admin?secret={server.secret}"):
            admin.get(path)
        admin.post("/admin/do/disconnect", json={"conn_id": conn_id})
        admin.post("/admin/sign_in", data={"username": "personal", "password": "personal-password"})
        admin.post("/connect", json={"conn_id": "personal"}, headers=server.sign("/connect"))
        admin.post("/demo/sign-in", json={"name": "personal"})
    _, rest = server.stop()
    log = "".join(server.lines) + rest
    assert log.count("/admin/") > 5
    secret = ("personal", signature.rpartition(".")[2], server.secret, server.admin_secret)
    assert [text for text in secret if text in log] == [], log


@pytest.mark.parametrize(("number", "text"), [(0, "0 streams"), (1, "1 stream"), (2, "2 streams")])
def test_a_number_agrees_with_its_noun(number: int, text: str) -> None:
    assert logs.counted(number, "stream") == text
