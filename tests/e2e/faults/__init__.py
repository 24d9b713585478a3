"""Three nodes on one Redis under load, of which something breaks, and a judge of what every client received.

The wires read bytes (`tests.e2e.wire`); nothing here uses the product's code, and positions are opaque.
"""
