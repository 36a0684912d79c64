"""Accuracy of the checks: the same functions that decide, run over many items whose truth is known.

`suite` says what a measurement is made of; each other file is one of them. `veridask evaluate` runs them.
"""
