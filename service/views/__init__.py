"""Turns records of the server into API models: cases, reviews, shadows, webhooks. Pure functions.

It does not define the models (`service.schemas`, shared with the client) or decide who may see them (`service.http`).
"""
