"""Measures the accuracy of the checks: runs the functions that decide cases over many items with known answers.

`suite` defines the parts of a measurement; `rates` computes error rates; each other file is one suite. Run them with
`veridask evaluate`.
"""
