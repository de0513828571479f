"""How a loaded model runs: what waits, what runs together, and who goes next.

`line` keeps the calls that wait, `budgets` make batches of them, `slots` shares a device
between models, and `batcher` puts the three together. None of them knows ONNX Runtime.
"""
