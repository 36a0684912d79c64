"""The report of a case as one HTML page: decision, pictures, scores and timeline.

It reads what `service.store` and `service.evidence` have. It decides nothing and runs no scripts.
"""
