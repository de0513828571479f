"""The vector service: collections of points in Postgres, searched by nearness."""
