"""The pages without a socket: see `tests/site.py`."""

from tests.site import acts, app, browser, open_browser, other_browser, panel, push_server, settings

__all__ = ["acts", "app", "browser", "open_browser", "other_browser", "panel", "push_server", "settings"]
