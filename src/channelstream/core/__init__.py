"""The domain, pure and synchronous: no async, no I/O, no clock, no randomness.

The caller passes the time and new ids in. Of this package it imports only `errors`.
"""
