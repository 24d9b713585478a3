"""The programs that a run starts."""

import ast
import inspect
from importlib import import_module

import pytest
from tests.forked_programs import PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_a_program_a_module_does_what_its_main_does(name: str) -> None:
    """It does nothing else, since most tests fork these programs instead of running `python -m`."""
    last = ast.parse(inspect.getsource(import_module(name))).body[-1]
    assert isinstance(last, ast.If)
    assert ast.unparse(last) in (
        "if __name__ == '__main__':\n    main()",
        "if __name__ == '__main__':\n    sys.exit(main())",
    )
