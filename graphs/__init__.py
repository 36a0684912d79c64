"""The graph of a case, from upload to decision. Start with `flow.py`, then read `case.py`."""
