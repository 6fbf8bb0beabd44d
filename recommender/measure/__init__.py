"""Splits of the data and ranking metrics."""
