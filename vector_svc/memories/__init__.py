"""Memories: texts that agents keep in spaces, over collections, points and searches."""
