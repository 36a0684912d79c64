"""Presentation attacks on the face video: each module measures one kind of trace or motion.

Does not find faces (`models.face`) and does not decide how much is enough: thresholds are policy (`graphs.profile`).
"""
