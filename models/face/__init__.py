"""Detects faces in frames, aligns them, measures their quality, embeds them and compares the embeddings.

Does not judge whether a live person is in front of the camera (`models.liveness`) and does not decide which distance
counts as a match (the policy does).
"""
