"""The case store: everything that the service stores in SQL, with its tables and their migrations.

Cases, events, uploads, webhooks, API keys, the audit log. It holds no media (`service.evidence`) and does not decide
how a case changes (`service.lifecycle`). Encryption itself is in `service.crypto`.
"""
