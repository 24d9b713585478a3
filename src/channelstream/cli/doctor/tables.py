"""The tables of all checks, in the order in which they run: causes before their effects."""

from channelstream.cli.doctor import access, certificates, files, issuers, redis, service, streams, webhooks
from channelstream.cli.doctor.finding import Check
from channelstream.cli.doctor.option_checks import OF_OPTIONS

OF_CONFIGURATION = (
    Check("options", access.combined),
    *OF_OPTIONS,
    Check("sqlite", files.sqlite, files.uses_sqlite),
    Check("descriptors", files.descriptors),
    Check("certificate file", certificates.of_file, certificates.has_certificate),
    Check("redis", redis.redis, redis.uses_redis),
    Check("webhook receivers", webhooks.receivers, webhooks.has_webhooks),
    Check("token issuers", issuers.keys, issuers.has_addresses),
)
"""They need no running server."""
OF_SERVICE = (
    Check("probes", service.probes, ends=True, timeout_s=30.0),
    Check("clocks", service.clocks, timeout_s=30.0),
    Check("signed call", streams.signed_call, ends=True),
    Check("nodes", service.nodes, timeout_s=30.0),
    Check("certificate", certificates.served, certificates.is_public_tls, ends=True),
    Check("public address", service.public_address, service.has_public_address, ends=True),
    Check("websocket", streams.websocket, streams.has_entrance, timeout_s=60.0),
    Check("sse", streams.event_stream, streams.has_entrance, timeout_s=60.0),
    Check("long poll", streams.long_poll, streams.has_entrance, timeout_s=60.0),
)
