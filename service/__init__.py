"""HTTP and people: the REST API, the case store, the evidence, the command line. Imports neither torch nor cv2."""
