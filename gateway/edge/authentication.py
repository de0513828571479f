"""The question to the companion before each call: may it pass, and as whose?"""

from datetime import timedelta
from typing import Final

from gateway.authz.wire import (
    API_KEY_HEADER,
    AUTHORIZATION_HEADER,
    KEY_ID,
    MISSING_SCOPE,
    PREFIX,
    REFUSED,
)
from gateway.envoy.core import StringMatcher
from gateway.envoy.filters import (
    AuthorizationResponse,
    AuthorizationService,
    ExtAuthz,
    ExtAuthzPerRoute,
    HttpCode,
    HttpStatus,
    HttpUri,
    ListStringMatcher,
    SimpleRetryPolicy,
)
from gateway.mesh import COMPANION_HTTP
from gateway.public import Scope
from gateway.settings import GatewaySettings
from stepwire.rpc.metadata import TENANT_ID

AUTHENTICATION_FILTER: Final = "envoy.filters.http.ext_authz"
CREDENTIALS: Final = (AUTHORIZATION_HEADER, API_KEY_HEADER)
"""The headers in which clients bring keys. They go to the companion and no further."""

# More than the companion waits for Postgres.
_TIMEOUT: Final = timedelta(seconds=1)

PerRoute = dict[str, ExtAuthzPerRoute]


def authentication() -> ExtAuthz:
    """Returns the filter: without an answer, no call passes."""
    return ExtAuthz(
        http_service=AuthorizationService(
            server_uri=HttpUri(
                uri=f"http://{COMPANION_HTTP}", cluster=COMPANION_HTTP, timeout=_TIMEOUT
            ),
            path_prefix=PREFIX,
            authorization_response=AuthorizationResponse(
                allowed_upstream_headers=_these(TENANT_ID),
                # Without any here, callers would get them all.
                allowed_client_headers=_these("www-authenticate"),
                # For the access log, and for what callers are told.
                dynamic_metadata_from_headers=_these(KEY_ID, REFUSED, MISSING_SCOPE),
            ),
            # A companion that stops ends its connections, and another may be there.
            retry_policy=SimpleRetryPolicy(num_retries=1, retry_on="connect-failure,reset"),
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=HttpCode.ServiceUnavailable),
        allowed_headers=_these(*CREDENTIALS),
    )


def needing(scope: Scope | None, settings: GatewaySettings) -> PerRoute:
    """Returns what a route says about keys: nothing if it needs a scope, else that it is open.

    Which scope, the companion knows by the path.
    """
    if settings.authentication == "off" or scope is not None:
        return {}
    return {AUTHENTICATION_FILTER: ExtAuthzPerRoute(disabled=True)}


def _these(*names: str) -> ListStringMatcher:
    return ListStringMatcher(patterns=tuple(StringMatcher(exact=name) for name in names))
