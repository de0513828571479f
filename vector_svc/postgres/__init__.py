"""The stores of the vector service, over Postgres with pgvector."""
