"""Mutated pictures and films, sent to the upload path and the decoders: `python -m benchmarks.fuzzing.fuzzed_media`.

`media_bases` makes the valid files and the decompression bombs, `media_mutations` damages them.
"""
