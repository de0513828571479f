"""The service runtime: servers, channels, and the context of a call."""

from stepwire.call import CallInfo, call_context, current_call
from stepwire.rpc.channel import open_channel
from stepwire.rpc.run import run
from stepwire.rpc.server import Server
from stepwire.rpc.service import Build, Service

__all__ = [
    "Build",
    "CallInfo",
    "Server",
    "Service",
    "call_context",
    "current_call",
    "open_channel",
    "run",
]
