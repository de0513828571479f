"""Builds that break a promise each, to see that its oracle turns red.

A module here has a function `apply`, which spoils the code of the process that calls it.
"""
