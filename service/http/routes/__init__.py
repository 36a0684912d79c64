"""The routes, one file for each resource.

Each route says who may call it, calls one operation and shows its result. Operations are in the rooms below
`service.http`; the models of requests and answers are in `service.schemas`.
"""
