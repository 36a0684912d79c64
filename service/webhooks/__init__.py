"""Sending webhooks: deliveries, retries, signatures, and the URLs that may be called.

Which deliveries are due is written by `service.store` in the transaction that causes them.
"""
