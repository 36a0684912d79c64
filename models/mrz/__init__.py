"""The machine readable zone (MRZ, ICAO Doc 9303): finding, reading and repairing it, and what it says.

Does not compare it with the rest of the document (`models.fields`), and does not decide whether a document has expired:
`graphs` does, with the date of the case.
"""
