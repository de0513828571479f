"""The local stack: every part of Stepwire on one machine, under one supervisor.

One module per part says how that part is started, how its readiness is checked and how
it is stopped; `supervisor` runs them, `state` tells other commands where they are.
"""
