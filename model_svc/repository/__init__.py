"""The models that are served: what lies in folders, what is loaded, who uses it.

`repository` is what calls go through; `catalogue` knows which models there are, `shelf`
loads and swaps the versions of one, `folder` and `built_in` are where models come from.
"""
