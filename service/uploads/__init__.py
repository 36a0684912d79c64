"""Resumable uploads by tus 1.0: what requests say, and the pieces of an upload until it is whole.

An upload in one request, and what becomes of whole media, is for `service.cases`.
"""
