"""What callers of the API see of cases, shadows and webhooks: records of the server in, API models out. Pure.

What the models are is in `service.schemas`, which the client shares. Who may see which view is for `service.http`.
"""
