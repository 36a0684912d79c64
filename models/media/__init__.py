"""Turns media files into frames: reads headers, checks limits and decodes images and videos into RGB arrays.

Does not look for pages or faces in the frames (`models.page`, `models.face`) and does not store or receive uploads
(the service does).
"""
