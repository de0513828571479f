"""Turns the weights of a BERT-type sentence encoder into an ONNX model, without PyTorch.

`cached` is what the service calls: it exports once, in a child process, and finds the
result again at the next start. Only `graph`, `encoder` and `writer` need the package onnx.
"""
