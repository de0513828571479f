"""Model service: ONNX models by tensor (Open Inference Protocol) and by text."""

import os

# ONNX Runtime would report its use over the network; it reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
