"""Logs, metrics and traces of an API process.

It does not decide when something is recorded: the other rooms call it. `/metrics` is served, and the gauges of store
and clusters are read, by `service.http`.
"""
