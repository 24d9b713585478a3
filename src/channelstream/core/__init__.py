"""The domain, pure and synchronous: no async, no I/O, no clock, no randomness.

The caller passes the time and new ids in. Of the server it imports only `errors` and `close_codes`.
"""
