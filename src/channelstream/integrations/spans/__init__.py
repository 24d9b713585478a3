"""Spans of OpenTelemetry: one for each API call, with the deliveries of what it publishes as span events.

Only `base` is imported while the option `otel` is off: the other modules need the extra `channelstream[otel]`.
Nothing here is related to the traces of `tracing.py`, which explain to an admin why something was not delivered.
"""
