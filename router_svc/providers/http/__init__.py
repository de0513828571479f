"""A small HTTP/1.1 client for the calls to providers: POST, keep-alive, streamed bodies."""

from router_svc.providers.http.client import HttpClient
from router_svc.providers.http.connection import ConnectionFailedError, HttpResponse

__all__ = ["ConnectionFailedError", "HttpClient", "HttpResponse"]
