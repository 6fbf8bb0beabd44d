"""Tune a shop's encoder: which items are set aside, what stops the tuning, and whether the recommender gains by it."""
