"""Applications, and who acts for them. Pure: no I/O, no clock.

A server serves one application or several, which share nothing that they can name. Every request and every stream belongs to
one of them.
"""
