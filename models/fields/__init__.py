"""The fields of a document (name, number, dates, sex, nationality) compared between MRZ, barcode and printed text.

Does not read any of them from pictures: `models.mrz`, `models.barcode` and `models.text` do. What a contradiction
leads to is policy.
"""
