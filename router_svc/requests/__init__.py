"""What callers ask, as the domain sees it, and its translation from and to the API."""
