"""The wire: what each protocol sends, and how WebSocket frames are read. Pure, as `core` is.

`channelstream.py` has the two generations of this server's own protocol. A further protocol is a module here, with
rows of its own in the table of `protocols.py`.
"""
