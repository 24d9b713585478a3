"""The transports: WebSocket, server-sent events and long poll, all with one `Session`.

Imports `core`, `engines` (types) and `node`; never `api`.
"""
