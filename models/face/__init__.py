"""Faces in frames: detection, landmarks, alignment, quality measures, embeddings, and the distance between faces.

Does not decide whether a face is live (`models.liveness`), and sets no thresholds: those are policy (`graphs.profile`).
"""
