"""The machine readable zone (MRZ): its meaning (ICAO Doc 9303), finding, reading and repairing it."""
