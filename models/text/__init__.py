"""Reads printed text on a rectified page: finds lines and recognises their characters with PP-OCR's networks.

Does not interpret the text: labels, values and dates are `models.fields`. The machine readable zone is read by
`models.mrz`.
"""
