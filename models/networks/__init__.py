"""What all networks share: verified weights, onnxruntime sessions, and moving pixels to a device.

Holds no network: each lives in the room that uses it (`page`, `face`, `text`). Downloads nothing, and does not choose
the device: `workers` does.
"""
