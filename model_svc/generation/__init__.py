"""Models that write text: what calls ask for, and the process that writes it.

`model` is what calls go through; `process` and `decoder` are the two ends of a model's own
process, `stops` ends texts, `codec` reads requests and writes answers.
"""
