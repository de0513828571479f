"""Makes the fixtures known here."""

from tests.integration.executor_svc.executor_fixtures import client, mesh, shared_mesh

__all__ = ["client", "mesh", "shared_mesh"]
