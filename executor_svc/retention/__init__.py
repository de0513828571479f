"""How long the record keeps what it holds, and in which partitions."""
