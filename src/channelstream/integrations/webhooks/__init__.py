"""Webhooks: what happens in an application, reported to its server by HTTP.

Facts come from the engine's outbox (`engines/outbox.py`), which keeps them until they are sent. One node of a service sends
(`sender.py`): for each receiver (`delivery.py`) it reads facts, leaves out what a short absence has caused (`settling.py`),
and posts them (`lane.py`, `post.py`) in one of two formats (`formats.py`), in order for each channel, again until they are
answered with 2xx or are too old.
"""
