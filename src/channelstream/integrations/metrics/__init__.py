"""Metrics for Prometheus: counters that the node keeps anyway, and those that `Meter` keeps as a consumer of its signals.

Nothing is computed before a scrape. No metric has a label whose values a stranger can choose (`meter.py`), and none is
updated for each recipient of an event. The list of all metrics is `catalog.py`; docs/metrics.md explains them.
"""
