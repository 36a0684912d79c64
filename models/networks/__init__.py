"""What every network needs: weights found by name and digest, onnxruntime sessions, pixels as torch tensors.

Does not contain any network: each is defined in the room that uses it (`models.page`, `models.face`, `models.text`).
"""
