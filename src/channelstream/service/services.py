"""The services of all applications on one node."""

from collections.abc import Iterable

from channelstream.apps.app import App, Apps
from channelstream.service.node import Node
from channelstream.service.service import Service


class Services:
    """The service of each application, found by the application, or by a key of it."""

    def __init__(self, apps: Apps, node: Node) -> None:
        self.node = node
        self._apps = apps
        self._services = {app.id: Service(app, node) for app in apps}
        self.default = self.of(apps.default)

    def of(self, app: App) -> Service:
        return self._services[app.id]

    @property
    def has_further(self) -> bool:
        """Whether there are applications besides the default one."""
        return len(self._services) > 1

    def all(self) -> Iterable[Service]:
        return self._services.values()

    def of_conn_id(self, conn_id: str) -> Service:
        """Return the service for a request that shows this connection id and names no application."""
        return self.of(self._apps.of_conn_id(conn_id))

    def owner(self, key: str) -> Service:
        """Return the service of the application that has this key."""
        return self.of(self._apps.owner(key))

    def app_of(self, key: str) -> App:
        """Return the application that has this key; the default one if it is not configured any more (`owner_id`)."""
        return self._apps.find(key) or self._apps.default

    def owner_id(self, key: str) -> str | None:
        """Return the id of the application that has this key; None if it is not configured.

        A restart restores the connections of an application that was removed from the configuration, too.
        """
        found = self._apps.find(key)
        return None if found is None else found.id
