"""The cost of credentials, in small numbers."""

import pytest
import uvloop

from channelstream.bench.credentials import FORMS, compare
from channelstream.service.new_channels import OF_USER


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_every_form_is_accepted_and_measured() -> None:
    """A refused call would end the run. So many of a client with a token bring no channel into being."""
    rows = uvloop.run(compare([], OF_USER.at_once + 1, 1))
    assert list(rows) == list(FORMS)
    assert all(took_us > 0 for _, took_us in rows.values())
