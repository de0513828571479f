"""Envoy's question before each call: may it pass, and for whom?

Asked over HTTP/1.1, with one small server of our own: through Python's gRPC a question
takes ten times as long, and each call pays for it (docs/adr/0026).
"""
