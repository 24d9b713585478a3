"""The settings of a process, and what is known about all options; `sections` has the table of these."""

from dataclasses import dataclass, replace
from typing import Any, Self

from channelstream.config.app_section import AppSection
from channelstream.config.networks import is_loopback
from channelstream.config.option import Option, options_of
from channelstream.config.sections.access import AccessOptions
from channelstream.config.sections.limits import LimitOptions
from channelstream.config.sections.pusher import PusherOptions
from channelstream.config.sections.server import ServerOptions
from channelstream.config.sections.timings import TimingOptions
from channelstream.config.sections.webhooks import WebhookOptions


# A dataclass has the fields of its last base first (PEP 557): the sections are shown in the opposite order.
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(WebhookOptions, PusherOptions, LimitOptions, TimingOptions, AccessOptions, ServerOptions):
    """Settings of one server process, made by `load`, or directly in tests."""

    apps: tuple[AppSection, ...] = ()
    """The applications besides the default one."""

    def of_app(self, section: AppSection) -> Self:
        """Return the settings of a further application: what its section does not set is as for the default one.

        What only one may have (`NEVER_SHARED`) is empty instead.
        """
        own: dict[str, Any] = {name: type(BY_NAME[name].default)() for name in NEVER_SHARED}
        return replace(self, apps=(), **own | dict(section.values))

    @property
    def of_each_app(self) -> tuple[Self, ...]:
        """The settings of all applications; those of the default one first."""
        return (self, *map(self.of_app, self.apps))

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets, those of further applications included; of an option that has several, each."""
        every = self.of_each_app
        texts = (getattr(own, option.name) for own in every for option in OPTIONS if option.declared.secret)
        return (*texts, *(each for own in every for each in own.webhook_secret.split()))

    @property
    def reads_again(self) -> bool:
        """Whether SIGHUP reads files with keys or secrets again; else it ends the process, as a closed terminal does."""
        return bool(self.keys_file) or any(
            own.secret_file or own.pusher_secret_file for own in self.of_each_app
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server; a unix socket counts."""
        return bool(self.unix_socket) or is_loopback(self.host)

    @property
    def serves_demo(self) -> bool:
        """Whether the demo is served: as `demo` is set, or on loopback without a proxy if it is not set."""
        return self.loopback and not self.trusted_proxies if self.demo is None else self.demo


OPTIONS: tuple[Option, ...] = tuple(options_of(Settings))
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(option.declared.section for option in OPTIONS))
BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS} | {
    option.declared.alias: option for option in OPTIONS if option.declared.alias
}
"""Options by their names and aliases."""
PER_APP: tuple[str, ...] = tuple(option.name for option in OPTIONS if option.declared.per_app)
"""The names of options that each application may set for itself."""
APP_SECRETS: tuple[str, ...] = tuple(name for name in PER_APP if BY_NAME[name].declared.secret)
"""The names of secrets that each application may have for itself."""
NEVER_SHARED: tuple[str, ...] = tuple(option.name for option in OPTIONS if option.declared.is_never_shared)
"""The names of options that no application has from another one: its secrets, and what identifies it besides."""
