"""Encoded media to frames: what the first bytes declare (`header`), and decoding and sampling with PyAV (`decoding`).

Imports neither cv2 nor torch, because the API process probes media too. Does not look at what the frames show, and
does not run in a child process by itself: `workers.decoding` does that.
"""
