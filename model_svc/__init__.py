"""Model service: ONNX models by tensor (Open Inference Protocol) and by text (Embed, Extract)."""
