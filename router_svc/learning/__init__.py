"""Learns from reported outcomes how good each model's answer to a request would be."""
