"""Comparison with baselines, and its report."""
