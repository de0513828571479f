"""What every store of the service may say."""


class CollectionGoneError(Exception):
    """The points of a collection are no longer there: it was deleted meanwhile."""


class TenantUnknownError(CollectionGoneError):
    """A tenant never had a collection, so that none of its can be there."""
