"""`channelstream doctor`: examines a configuration and a running service, and says what is wrong and what to do.

A check is a coroutine that takes the `Subject` and returns findings; without a finding it has passed. The tables are in
`tables.py`, and each check has a bound on its time. The text of a finding never has a secret. A check changes nothing but
this: those of streams register a connection, and end it.
"""
