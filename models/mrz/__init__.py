"""The machine readable zone (MRZ): its meaning (ICAO Doc 9303), finding and reading it in pictures, and repairing it."""
