"""Servers with several applications, and each of these spoken to as if it were a server of its own."""

from dataclasses import dataclass, replace

from tests.conftest import RunningServer, launch
from tests.pusher_calls import SHOP

SECRETS = {"shop": "secret of the shop", "blog": "secret of the blog"}
PUSHER = {"shop": SHOP, "blog": {"APP_ID": "blog-app_1", "KEY": "blog-key", "SECRET": "blog-secret"}}
"""What they have for Pusher's protocol, by the ends of the options' names."""
ADMIN_SECRETS = {"shop": "admin of the shop", "blog": "admin of the blog"}


@dataclass
class RunningApp(RunningServer):
    """A further application of a running server; its calls and streams go to the paths below its own.

    Attributes:
        prefix: begins them; empty for calls to the paths of the default application.
    """

    prefix: str = ""

    @property
    def url(self) -> str:
        return super().url + self.prefix

    @property
    def ws_url(self) -> str:
        return super().ws_url + self.prefix


def app_of(server: RunningServer, app_id: str) -> RunningApp:
    """Return an application of a server that `launch_apps` has started."""
    return RunningApp(
        server.process, server.port, [], SECRETS[app_id], ADMIN_SECRETS[app_id], prefix=f"/app/{app_id}"
    )


def without_prefix(app: RunningApp) -> RunningApp:
    """Return an application whose calls and streams go to the paths of the default one."""
    return replace(app, prefix="")


def launch_apps(*flags: str, **environ: str) -> RunningServer:
    """Start a server with the applications `shop` and `blog`."""
    secrets = {f"CHANNELSTREAM_APP_{app_id.upper()}_SECRET": text for app_id, text in SECRETS.items()}
    admins = {
        f"CHANNELSTREAM_APP_{app_id.upper()}_ADMIN_SECRET": text for app_id, text in ADMIN_SECRETS.items()
    }
    pusher = {
        f"CHANNELSTREAM_APP_{app_id.upper()}_PUSHER_{name}": text
        for app_id, own in PUSHER.items()
        for name, text in own.items()
    }
    return launch(*flags, **(secrets | admins | pusher | environ))
