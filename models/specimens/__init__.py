"""Specimen documents, captures of them and attacks on them, made by us from seeds: demo, tests, training, benchmarks.

The documents are those of Utopia (UTO), the fictional state of ICAO Doc 9303, and name nobody. `person` → `document`
(front and back as pictures) → `capture` (a film of the document, as an H.264 MP4) with `attacks` on the way.
"""
