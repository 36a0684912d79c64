"""Barcodes on documents: finding PDF417, QR Code and Data Matrix symbols, and parsing AAMVA driver licence data.

Also tells whether a symbol is shown mirrored. Does not compare a barcode with the rest of the document: that is
`models.fields`.
"""
