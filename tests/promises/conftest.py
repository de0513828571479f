"""Makes the fixtures known here."""

from tests.integration.executor_svc.executor_fixtures import (
    client,
    database_url,
    executor_template,
    mesh,
    shared_mesh,
)

__all__ = ["client", "database_url", "executor_template", "mesh", "shared_mesh"]
