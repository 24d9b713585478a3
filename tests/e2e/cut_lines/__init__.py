"""Clients on real sockets whose lines are cut at random bytes, and a judge of what they received.

Nothing here uses the product's code: frames, blocks and answers are read from their bytes.
"""
