"""The scripts that run in Redis: one for each file of operations in `lua/`, joined of that file and of all that it uses.

Redis runs the whole text of a script for each call, and so makes each of its functions, at 0.3 to 0.5 us of its CPU
(measured): one script for all operations would take 100 us before it begins, that of a publish takes 36. Each file names
those that it uses in a line `-- Uses: `. The joined ones are in the order of their names, so that what is used comes
first. A function of Lua, which a script is, has 200 local variables at most (LUAI_MAXVARS);
`tests/engines/redis/test_scripts.py` says how many are left.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

_OF_OPERATIONS = re.compile(r"6\d_.*_operations")
_RUN = "70_run"
"""The file that ends each script: it runs the operation."""
_USES = re.compile(r"^-- Uses: (.*)$", re.MULTILINE)
_OPERATION = re.compile(r"^function operations\.(\w+)", re.MULTILINE)


@cache
def scripts() -> Mapping[str, str]:
    """Return the text of each operation's script.

    The files are read once: a link that opens again must not run the scripts of a version that was installed meanwhile.
    """
    parts = {
        part.name.removesuffix(".lua"): part.read_text(encoding="utf-8")
        for part in files(__package__).joinpath("lua").iterdir()
        if part.name.endswith(".lua")
    }
    return {
        operation: text
        for name in filter(_OF_OPERATIONS.fullmatch, parts)
        for text in [_joined((name, _RUN), parts)]
        for operation in _OPERATION.findall(parts[name])
    }


def _joined(names: Iterable[str], parts: Mapping[str, str]) -> str:
    wanted, found = list(names), set[str]()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += [used for line in _USES.findall(parts[name]) for used in line.split(", ")]
    return "\n".join(parts[name] for name in sorted(found))
