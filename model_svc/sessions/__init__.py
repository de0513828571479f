"""Models in ONNX Runtime: sessions, the device that they run on, and its replacement.

`engine` is what the rest of the service uses; `session` and `bound` are the two ways to
call ONNX Runtime, with arrays and with buffers on a device.
"""
