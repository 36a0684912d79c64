"""The capture page: its files, and the link that opens it for one case.

The page uses the same API as every other client; `service.http` serves the files.
"""
