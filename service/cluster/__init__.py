"""Connections to the Dask clusters, and scaling of worker groups on Kubernetes.

It does not build the graphs of cases (`graphs`), start embedded clusters or decide how many workers are needed
(`workers`), or decide which case goes where (`service.cases`).
"""
