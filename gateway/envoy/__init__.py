"""A typed model of the part of Envoy's configuration that the gateway uses.

Each class mirrors one message of Envoy's v3 API, field for field and under the
same names, without any opinion: what the gateway wants of Envoy is in
`gateway.edge`. Whether a value is one that Envoy takes is Envoy's to say
(`envoy --mode validate`).
"""
