"""`channelstream doctor`: examines a configuration and a running service, and says what is wrong and what to do.

A check is a coroutine that takes the `Subject` and returns findings; without a finding it has passed. The tables are in
`tables.py`, and each check has a bound on its time. The text of a finding never has a secret. A check changes nothing but
this: those of streams register a connection, and end it.

::

    command      arguments and output       tables   all checks, in their order
    finding      findings, the subject, and how a check runs
    access       secrets, origins, who may read and call      files   modes, and the directory of the SQLite file
    certificates dates of a certificate, in a file or as it is served
    redis        what docs/engines.md asks of Redis
    service      probes, versions, clocks and descriptors of the nodes     streams   the way through the proxy
"""
