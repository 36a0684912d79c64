"""Keys and encryption: sealed data, the keyring, client secrets, certificates of a cluster.

It does not store wrapped data keys (`service.store`) or sealed media (`service.evidence`), and does not check who may
do what (`service.http.access`).
"""
