"""Synthetic documents, faces, captures of them and attacks on them, made from seeds for demo, tests, training and
benchmarks.

The documents are those of Utopia (UTO), the fictional state of ICAO Doc 9303, and name no real person. The pipeline is
`person` → `document` (front and back as pictures) → `capture` (a film of the document, as an H.264 MP4), with `attacks`
applied on the way. Not needed at run time: no check imports it.
"""
