"""The checks of options alone, which `check-config` makes as well: they ask nothing of this machine but the named files."""

from channelstream.cli.doctor import access, files, webhooks
from channelstream.cli.doctor.finding import Check

OF_OPTIONS = (
    Check("secrets", access.keys),
    Check("callers", access.callers),
    Check("https", access.https),
    Check("webhooks", webhooks.options, webhooks.has_webhooks),
    Check("file modes", files.modes, files.has_private_files),
)
