"""Postgres as all stores of the service use it: connections, codecs, statements."""
