"""HTTP beside a gRPC server: for clients that speak another API than ours.

What Stepwire's own API is over HTTP comes from the gateway, which turns JSON into gRPC.
"""

from stepwire.http.app import HttpApp, Route
from stepwire.http.exchange import Answer, Asked, Stream
from stepwire.http.server import HttpServer

__all__ = ["Answer", "Asked", "HttpApp", "HttpServer", "Route", "Stream"]
