"""The transports: WebSocket, server-sent events and long poll, all with one `Attachment`.

Imports `core`, `wire`, `service` and `http`; never `api` or `engines`.
"""
