"""Printed text in pictures: finding lines and recognising them with the PP-OCR networks.

Does not know what the text means: `models.fields` finds dates, names and numbers in it, `models.mrz` reads the machine
readable zone.
"""
