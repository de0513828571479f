"""What happens around every call: one file per concern, and the order in `order.py`."""
