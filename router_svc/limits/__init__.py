"""Keeps calls within the rates of the catalogue, over all instances together."""
