"""A further application, as the configuration describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class AppSection:
    """What the section of a further application sets.

    Attributes:
        values: of options that applications have, by name.
    """

    id: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
