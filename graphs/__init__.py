"""What a case is: the dataflow from upload to decision. Read `flow.py`, then `case.py`."""
