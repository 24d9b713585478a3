"""The transports: WebSocket, server-sent events and long poll, all with one `Attachment`.

Imports `core`, `wire`, `node` and `http`; never `api` or `engines`.
"""
