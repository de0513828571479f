"""Decides which model answers a request, and says why. Pure: no I/O, no clock."""

from router_svc.policy.choice import Candidate, Decision, decide

__all__ = ["Candidate", "Decision", "decide"]
