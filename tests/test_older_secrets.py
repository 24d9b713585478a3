"""What the log says of callers that sign with an older secret; `tests/api/test_rotation.py` has it of a real server."""

import pytest

from channelstream.core.line_limit import MINUTE_S
from channelstream.older_secrets import OlderSecrets


def test_each_application_is_named_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """However many calls it makes; the address is that of the first caller."""
    now_s = [100.0]
    older = OlderSecrets(lambda: now_s[0])
    for address in ("192.0.2.1", "192.0.2.2"):
        for app_id in ("default", "shop"):
            older.used(app_id, address)
    first = [("default", "192.0.2.1", "secret_file", ""), ("shop", "192.0.2.1", "secret_file", "")]
    assert [record.args for record in caplog.records] == first
    older.used_of_pusher("shop", "192.0.2.2")
    assert caplog.records[2].args == ("shop", "192.0.2.2", "pusher_secret_file", "")
    now_s[0] += MINUTE_S
    older.used("shop", "192.0.2.3")
    assert caplog.records[3].args == ("shop", "192.0.2.3", "secret_file", "; 1 more not logged")
