"""Finds the document in each frame, rectifies it, measures its quality and looks for recapture and tampering.

Does not read what is printed on the page: text is `models.text`, the machine readable zone `models.mrz` and barcodes
`models.barcode`. Does not decide what is good enough: thresholds belong to the policy.
"""
