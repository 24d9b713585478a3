"""The layers of the architecture as a table, and what a source file imports of them."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import channelstream

PACKAGE = "channelstream"
ROOT = Path(channelstream.__file__).parent
LAYERS = (
    {"faults", "close_codes"},
    {"errors"},
    {"core"},
    {"apps"},
    {"auth", "wire"},
    {"slices", "shielded", "memory", "regular_file"},
    {"engines"},
    {"service"},
    {"http"},
    {"transports", "api"},
    {"config"},
    {
        "pages",
        "call_signing",
        "logs",
        "housekeeping",
        "tracing",
        "clock",
        "pacing",
        "watchdog",
        "health",
        "load_monitor",
        "draining",
        "service_manager",
        "early_signals",
        "integrations",
        "older_secrets",
        "untrusted_proxy",
    },
    {"admin", "demo", "explorer"},
    {"site", "descriptors", "upgrade"},
    {"app_tables", "client_rules", "key_watch", "monitoring"},
    {"lifecycle"},
    {"server"},
    {"supervisor"},
    {"bench"},
    {"bench.peers", "bench.engines"},
    {"cli"},
    {"cli.doctor"},
    {"__main__"},
)
"""From left to right; a unit may import itself and what stands further left, never its neighbour."""
ONLY_FOR = {
    "engines": {"service", "config", "server", "bench.engines", "cli.doctor"},
    "wire": {"transports", "api", "admin", "server", "bench.engines"},
}
"""Units that only these may import.

Every other unit reaches an engine through the node, which has the use cases; the configuration imports the forms of an
engine's address, and the server makes the engine. Engines, service and http know no protocol. `bench.engines` measures
engines alone.
"""
IMPORTS_ONLY = {
    "engines": {"errors", "core", "apps", "slices", "shielded"},
    "http": {"errors", "core", "slices"},
    "config": {"errors", "core", "apps", "auth", "regular_file", "engines"},
    "tracing": {"errors", "core", "apps", "service"},
    "integrations": {
        "errors",
        "core",
        "apps",
        "auth",
        "slices",
        "shielded",
        "regular_file",
        "service",
        "http",
        "api",
    },
    "pages": {"errors", "core", "http"},
    "demo": {"pages", "call_signing"},
    "explorer": {"errors", "pages", "call_signing"},
    "call_signing": {"core"},
    "bench": {"errors", "config"},
    "bench.peers": {"bench"},
}
"""Units that may import nothing of the package but these.

HTTP knows neither applications nor nodes, and a trace, as any consumer of signals, no protocol. The demo talks to the server
as any application does, over HTTP; the load generator measures it from outside.
"""
KNOW_NO_PROTOCOL = {"engines", "service", "http", "tracing", "pages", "demo", "explorer"}
"""Units that import no module of a single protocol, in whatever unit that is; nor does one of `core` of another subject."""
ONE_PROTOCOL = "pusher"
"""In the names of these modules, as that protocol has names and signatures that more than `wire` reads."""
KEY_MAKERS = {"make_key", "make_member_key", "app_id_of", "MARK", "IN_CHANNEL"}
"""What makes keys of names, or takes keys apart: only `apps` has use of it, so that one unit decides what a key is."""
OF_NODES = {"KeyRate", "LastMessages", "Memberships", "Service", "Services", "Opened", "Subscriptions"}
"""What the API may know of nodes: it reaches them through the service of an application, which takes names."""
PURE_UNITS = ("core", "apps", "auth", "wire")
PURE_FILES = {f"{PACKAGE}.engines.event_codec"}
"""The stored form of events: all engines agree on it, whatever they store it with."""
PORTS = {
    "Engine": {"service.first_reads", "service.node"},
    "EventLog": {"service.local", "service.publishing", "service.stream_reads"},
    "Directory": {"service.connecting", "service.executing", "service.local"},
    "DirectoryReads": {"service.node", "service.member_states"},
    "Movable": {"service.node_move"},
    "Cluster": {"service.handover", "service.remote_calls"},
    "TimeSeries": {
        "service.node",
        "service.revocations",
        "admin.changed_options",
        "admin.history",
        "admin.key_uses",
        "integrations.webhooks.ahead",
        "integrations.webhooks.dead_letters",
    },
    "Outbox": {
        "service.node",
        "service.reports",
        "integrations.webhooks.delivery",
        "integrations.webhooks.sender",
    },
}
"""The ports of the shared state, each with the modules that may take it. Those outside of `service` get it from the node."""
CLIENT = "channelstream_client"
USERS_OF_THE_CLIENT = {"bench", "cli", "cli.doctor"}
"""The units that may import the Python client, which is a distribution of its own. Nothing that serves loads it."""
PURE_MODULES = {
    "base64", "binascii", "bisect", "codecs", "collections", "contextlib", "dataclasses", "datetime", "enum", "functools",
    "hashlib", "heapq", "hmac", "ipaddress", "itertools", "math", "operator", "re", "types", "typing",
    "traceback", "urllib.parse", "zlib", "cryptography", "idna", "itsdangerous", "jwt", "msgspec",
}  # fmt: skip
"""What pure modules may import from outside of the package. A module that is missing here may touch the world."""
MAY_ALSO_IMPORT = {f"{PACKAGE}.auth.foreign": {"importlib"}}
"""The checker of signatures that an operator names is a class of a module of theirs."""
PARTS = {unit for units in LAYERS for unit in units if "." in unit}
"""Packages within a unit that have a place of their own."""
IMPURE_CALLS = {"open", "input", "print", "now", "utcnow", "today"}
"""Functions, and methods of datetime, that read a clock or touch the world."""


def unit_of(module: str) -> str | None:
    """The layer's unit a dotted name belongs to; None for the package itself and for strangers."""
    parts = module.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    part = ".".join(parts[1:3])
    return part if part in PARTS else parts[1]


def rank(unit: str) -> int:
    """How far to the right a unit stands."""
    for place, units in enumerate(LAYERS):
        if unit in units:
            return place
    raise LookupError(f"{unit!r} stands in no layer: give it a place in LAYERS")


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(part for part in parts if part != "__init__")))


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module that is imported anywhere in a tree, also inside functions and for types only.

    Args:
        tree: a parsed file.
        package: the package relative imports of that file start from.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            has_units = base == PACKAGE or any(f"{PACKAGE}.{part}".startswith(f"{base}.") for part in PARTS)
            yield from (f"{base}.{alias.name}" if has_units else base for alias in node.names)


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module a `from` statement names, whatever dots it begins with."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    kept = parents[: len(parents) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def package_of(module: str, is_package: bool = False) -> str:
    """The package from which relative imports of a module start."""
    return module if is_package else module.rpartition(".")[0]


def violations(module: str, imported: Iterable[str]) -> list[str]:
    """The imports of one file that point to the right, or to a neighbour."""
    own = unit_of(module)
    if own is None:
        return [f"{module} imports {name}" for name in imported if unit_of(name) in known_units()]
    wrong = []
    for name in imported:
        if name.partition(".")[0] == CLIENT and own not in USERS_OF_THE_CLIENT:
            wrong.append(f"{module} imports {name}")
        unit = unit_of(name)
        if unit in known_units() and unit is not None and not may_import(own, unit):
            wrong.append(f"{module} imports {name}")
    return wrong


def may_import(own: str, other: str) -> bool:
    """Whether one unit may import another."""
    if own == other:
        return True
    is_allowed = own in ONLY_FOR.get(other, {own}) and other in IMPORTS_ONLY.get(own, {other})
    return rank(other) < rank(own) and is_allowed


@cache
def known_units() -> set[str]:
    """The units of all layers, and those of the package's directory: an unplaced one is not overlooked."""
    return set().union(*LAYERS) | {unit for path in FILES if (unit := unit_of(module_of(path)))}


def impurities(source: str, module: str = f"{PACKAGE}.core.hub") -> list[str]:
    """Return what a pure module must not have: imports of what may be impure, async code, reads of a clock."""
    tree = ast.parse(source)
    allowed = PURE_MODULES | MAY_ALSO_IMPORT.get(module, set())
    outside = (name for name in imports(tree, package_of(module)) if not is_below(name, {PACKAGE}))
    found = [name for name in outside if not is_below(name, allowed)]
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            found.append(f"line {node.lineno}: {type(node).__name__}")
        elif isinstance(node, ast.Call) and called(node) in IMPURE_CALLS:
            found.append(f"line {node.lineno}: {called(node)}()")
    return found


def is_below(module: str, names: set[str]) -> bool:
    """Whether a module, or a package it is in, is one of these."""
    parts = module.split(".")
    return any(".".join(parts[:length]) in names for length in range(1, len(parts) + 1))


def called(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


FILES = sorted(ROOT.rglob("*.py"))
PURE = [path for path in FILES if unit_of(module_of(path)) in PURE_UNITS or module_of(path) in PURE_FILES]


@dataclass(frozen=True)
class Imports:
    """What a file imports.

    Attributes:
        modules: as `imports` finds them.
        names: each module from which it imports by name, with the name.
    """

    modules: list[str]
    names: list[tuple[str, str]]


@cache
def imports_of(path: Path) -> Imports:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return Imports(
        list(imports(tree, package_of(module_of(path), path.name == "__init__.py"))),
        [(node.module or "", alias.name) for node in statements for alias in node.names],
    )
