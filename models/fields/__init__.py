"""Interprets text that was already read: finds labelled values and dates, and compares them across the document.

Does not look at pixels: text comes from `models.text`, the machine readable zone from `models.mrz` and barcodes from
`models.barcode`. Does not decide the outcome (the policy does).
"""
