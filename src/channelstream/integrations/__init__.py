"""What connects the server with other systems: metrics, spans, webhooks, and the public keys of issuers of tokens.

What serves a call or a stream imports nothing of it: it announces signals, writes to the outbox, and is given the rest.
"""
