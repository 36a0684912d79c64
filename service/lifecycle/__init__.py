"""What a case is and how it changes: records and pure transitions, without I/O.

Storing a case is for `service.store`; deciding when it changes is for `service.cases`.
"""
