"""The metadata keys that travel with every call between services."""

from typing import Final

REQUEST_ID: Final = "x-request-id"
TENANT_ID: Final = "x-tenant-id"  # set by the gateway, which strips a client's own
TRACEPARENT: Final = "traceparent"
