"""Keeps http steps away from addresses that are not public (server-side request forgery).

The host is resolved here, every address is checked, and the connection is made to the very
address that was checked, so that a name cannot change its meaning in between. Redirects
are not followed.
"""

import asyncio
import ipaddress
import socket

import httpx2

from executor_svc.steps.kind import StepError


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests to public addresses only."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request to an address that was checked.

        Raises:
            StepError: FIELD_INVALID, when the host has an address that is not public.
            httpx2.ConnectError: when it cannot be resolved.
        """
        host = request.url.host
        address = await _public_address(host, request.url.port)
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


async def _public_address(host: str, port: int | None) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx2.ConnectError(f"{host} cannot be resolved: {error}") from error
    addresses = [entry[4][0] for entry in found]
    for address in addresses:
        if not is_public(str(address)):
            raise StepError(
                f"url: {host} has the address {address}, which is not public; "
                "STEPWIRE_WORKER_HTTP_ALLOW_PRIVATE=true allows it",
                reason="FIELD_INVALID",
                metadata={"field": "url", "address": str(address)},
            )
    return str(addresses[0])


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if embedded is not None:
            return is_public(str(embedded))
        if parsed.is_reserved or parsed.is_site_local:
            # Among them the forms that hold an IPv4 address: ::/96 and 64:ff9b::/96.
            return False
    return parsed.is_global and not parsed.is_multicast
