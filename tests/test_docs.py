"""The documentation: links lead somewhere, examples are well-formed, and its names exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelstream.close_codes import CloseCode
from channelstream.config import OPTIONS
from channelstream.engines.base import Directory, DirectoryReads, Engine, EventLog, Receiver
from channelstream.engines.cluster import Cluster, ClusterReceiver
from channelstream.engines.movable import Movable
from channelstream.engines.outbox import Outbox
from channelstream.engines.time_series import TimeSeries

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "examples/README.md",
        ROOT / "clients/js/README.md",
        ROOT / "clients/python/README.md",
    ]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE_WIDTH = 125
UNWRAPPED = ("|", "#", "![")
"""How lines begin that Markdown cannot wrap: rows of tables, headings; and pictures."""
OPTION = re.compile(r"`([a-z_]+_(?:s|bytes|proxies|cors|secret))`")
"""Names in code style that can only be options: those that end in a unit, or in what only options have."""


def name_of(page: Path) -> str:
    """A page's path below the root, for test names."""
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[tuple[str, str]]:
    """The relative links of a page: path (empty for the page itself) and anchor."""
    for target in LINK.findall(prose(page)):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(language: str) -> list[tuple[str, str]]:
    """All code blocks of a language, with the page they are on."""
    found = []
    for page in PAGES:
        blocks = FENCE.findall(page.read_text(encoding="utf-8"))
        found += [(name_of(page), code) for kind, code in blocks if kind == language]
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that exists and, if it has an anchor, a heading of it."""
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor} is no heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_is_wrapped(page: Path) -> None:
    """A line of prose is as short as one of the code may be, so that a change shows as the lines that differ."""
    wrapped = [line for line in prose(page).splitlines() if not line.lstrip().startswith(UNWRAPPED)]
    assert [line for line in wrapped if len(line) > PROSE_WIDTH] == []


@pytest.mark.parametrize(("page", "code"), examples("json"))
def test_json_examples_are_json(page: str, code: str) -> None:
    """Examples of bodies and events can be parsed."""
    assert json.loads(code), page


@pytest.mark.parametrize(("page", "code"), examples("python"))
def test_python_examples_compile(page: str, code: str) -> None:
    """Examples in Python are Python."""
    compile(code, page, "exec")


def test_readme_is_short_enough_to_copy() -> None:
    """The README's first example stays an example: ten lines of Python that connect and publish."""
    code = next(code for page, code in examples("python") if page == "README.md")
    assert len(code.splitlines()) <= 10
    assert ".connect(" in code
    assert ".publish(" in code


@pytest.mark.parametrize("page", ["docs/api.md", "docs/resume.md"])
def test_close_codes_are_documented(page: str) -> None:
    """A client's author finds every code the server closes with."""
    text = (ROOT / page).read_text(encoding="utf-8")
    ours = list(CloseCode)
    assert [code.name for code in ours if str(code.value) not in text] == []


METRICS = ("channelstream_", "process_")
"""Beginnings of names of metrics, which `tests/integrations/test_metrics.py` compares with the catalog."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_named_in_prose_exist(page: Path) -> None:
    """A page names no option that was renamed or removed."""
    known = {option.name for option in OPTIONS} | {
        option.declared.alias for option in OPTIONS if option.declared.alias
    }
    named = {name for name in OPTION.findall(prose(page)) if not name.startswith(METRICS)}
    assert named - known == set()


def test_limits_are_documented() -> None:
    """Every option that bounds something is named where the bounds are explained."""
    text = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
    bounds = [option.name for option in OPTIONS if option.declared.section == "Limits"]
    assert [name for name in bounds if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("heading", "folders", "named"),
    [
        ("`core/` and `wire/`", ("core", "wire"), r"`([a-z_]+)`"),
        ("`engines/`", ("engines",), r"`([a-z_]+)\.py`"),
        ("`engines/`", ("engines/redis",), r"`redis/([a-z_]+)\.py`"),
        ("`service/` and `http/`", ("service",), r"`service/([a-z_]+)\.py`"),
        ("`service/` and `http/`", ("http",), r"`http/([a-z_]+)\.py`"),
        ("`apps/` and `auth/`", ("apps",), r"`apps/([a-z_]+)\.py`"),
        ("`apps/` and `auth/`", ("auth",), r"`auth/([a-z_]+)\.py`"),
        ("`transports/` and `api/`", ("transports",), r"`transports/([a-z_]+)\.py`"),
        ("`transports/` and `api/`", ("api",), r"`api/([a-z_]+)\.py`"),
        ("`transports/` and `api/`", ("api/pusher",), r"`api/pusher/([a-z_]+)\.py`"),
        ("`config/` and `pages/`", ("config",), r"`config/([a-z_]+)\.py`"),
        ("`config/` and `pages/`", ("config/sections",), r"`config/sections/([a-z_]+)\.py`"),
        ("`config/` and `pages/`", ("pages",), r"`pages/([a-z_]+)\.py`"),
        ("`admin/`", ("admin",), r"`([a-z_]+)`"),
        ("`integrations/`", ("integrations",), r"`integrations/([a-z_]+)\.py`"),
        ("`integrations/`", ("integrations/metrics",), r"`integrations/metrics/([a-z_]+)\.py`"),
        ("`integrations/`", ("integrations/spans",), r"`integrations/spans/([a-z_]+)\.py`"),
        ("`integrations/`", ("integrations/webhooks",), r"`integrations/webhooks/([a-z_]+)\.py`"),
        ("`upgrade/`", ("upgrade",), r"`([a-z_]+)\.py`"),
        ("`cli/` and `bench/`", ("cli",), r"`cli/([a-z_]+)\.py`"),
        ("`cli/` and `bench/`", ("cli/doctor",), r"`cli/doctor/([a-z_]+)\.py`"),
        ("`cli/` and `bench/`", ("bench",), r"`bench/([a-z_]+)\.py`"),
        ("`cli/` and `bench/`", ("bench/peers",), r"`bench/peers/([a-z_]+)\.py`"),
        ("`cli/` and `bench/`", ("bench/engines",), r"`bench/engines/([a-z_]+)\.py`"),
    ],
)
def test_the_architecture_lists_every_file(heading: str, folders: tuple[str, ...], named: str) -> None:
    """And none that was renamed or removed."""
    _, _, rest = (
        (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition(f"\n### Files of {heading}\n")
    )
    files = {path.stem for folder in folders for path in (ROOT / "src/channelstream" / folder).glob("*.py")}
    assert set(re.findall(named, rest.partition("\n#")[0])) == files - {"__init__", "__main__"}


@pytest.mark.parametrize(
    "port",
    [
        EventLog,
        DirectoryReads,
        Directory,
        Movable,
        Engine,
        Cluster,
        TimeSeries,
        Outbox,
        Receiver,
        ClusterReceiver,
    ],
)
def test_the_ports_of_an_engine_are_documented(port: type) -> None:
    """Each method and attribute, where docs/engines.md says what an engine must do."""
    _, contract = (ROOT / "docs/engines.md").read_text().split("\n## Writing an engine\n")
    members = {name for name in {**vars(port), **port.__annotations__} if not name.startswith("_")}
    assert members
    assert members <= set(re.findall(r"`(\w+)`", contract))
