"""What a case is: the dataflow from upload to decision. Read `case.py` first."""
