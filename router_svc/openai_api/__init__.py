"""The router as an OpenAI-compatible API over HTTP, for clients that know that one."""
