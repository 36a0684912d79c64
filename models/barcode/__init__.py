"""Reads barcodes (PDF417, QR Code, Data Matrix) on pictures and parses the AAMVA data of North American licences.

Does not compare the data with the rest of the document (`models.fields` does) and does not find the page
(`models.page` does).
"""
