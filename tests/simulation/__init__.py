"""A deterministic simulator of clients, lines and publishers around the real node, and the checker of its deliveries.

The node, its hub, engine, streams and their attachments are the product's own; lines, time and the order in which the
engine answers are scripted by a seed. docs/proof.md says what is proven and how a seed is replayed.
"""
