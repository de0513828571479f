"""What every store of the service may say."""


class CollectionGoneError(Exception):
    """What was known of a collection is no longer so: it was deleted or changed meanwhile."""


class TenantUnknownError(CollectionGoneError):
    """A tenant never had a collection, so that none of its can be there."""
