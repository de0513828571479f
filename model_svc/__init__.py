"""Model serving: text in, vectors or quotes out; tensors by the Open Inference Protocol."""

import os

# ONNX Runtime would report its use over the network; it reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
