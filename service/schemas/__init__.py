"""The models of the API: what requests contain and what answers look like. Needs pydantic alone.

The server and the client share them, so nothing of the server is imported here. Making them from records is for
`service.views`.
"""
