"""Operations on cases: create, upload, cancel, review, redact, expire; and keeping store and clusters in step.

The rules of a case are in `service.lifecycle`, the SQL in `service.store`, and the graphs of checks in `graphs`. HTTP
is in `service.http`.
"""
