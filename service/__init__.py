"""HTTP and people. Never imports torch or cv2."""
