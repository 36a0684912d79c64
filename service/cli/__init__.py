"""The command line: `veridask serve`, `api`, `keys`, `verify`, `demo`, `evaluate`, `doctor` and the commands of
operators.

It reads settings and options and prints results. It does not run requests (`service.http`) or start processes itself
(`service.server`).
"""
