"""Runs the service: in this process (`serve`), or as a child process (`local`).

It listens, starts the embedded cluster and its scaling, and shuts down in order. It holds no logic of the service:
`service.assembly` builds the parts and `service.http` answers requests. Commands and options are in `service.cli`.
"""
