"""Headers that only the gateway sets, and what it does about clients that send them."""

from gateway.envoy.core import AppendAction, HeaderMatcher, TypedConfig, header
from gateway.envoy.filters import EarlyHeaderMutation, HeaderMutation
from stepwire.call import DEFAULT_TENANT
from stepwire.rpc.metadata import TENANT_ID

_ORIGINAL_PATH = "x-envoy-original-path"
_ORIGINAL_METHOD = "x-envoy-original-method"

FROM_JSON = HeaderMatcher(name=_ORIGINAL_PATH, present_match=True)
"""The mark of calls that came as JSON: the header that the transcoder sets."""

FROM_GRPC = HeaderMatcher(name=_ORIGINAL_PATH, present_match=True, invert_match=True)
"""The mark of all other calls."""


def early_header_mutation() -> TypedConfig:
    """Takes from clients the headers that only the gateway may set.

    It comes before all filters, so that the one which knows the caller's key can put
    another tenant in the place of the default one.
    """
    tenant = header(TENANT_ID, DEFAULT_TENANT, AppendAction.OVERWRITE_IF_EXISTS_OR_ADD)
    return TypedConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=EarlyHeaderMutation(
            mutations=(
                HeaderMutation(remove=TENANT_ID),
                HeaderMutation(append=tenant),
                HeaderMutation(remove=_ORIGINAL_PATH),
                HeaderMutation(remove=_ORIGINAL_METHOD),
            )
        ),
    )
