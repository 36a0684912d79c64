"""The document page in frames: finding its outline, rectifying it, and measuring it.

Measures quality, recapture from a screen, tampering and holograms. Does not read what is on the page (`models.text`,
`models.mrz`, `models.barcode`), and sets no thresholds: those are policy (`graphs.profile`).
"""
