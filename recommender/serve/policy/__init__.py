"""Exploration: new items get a bounded share of the places of lists, and each draw is logged with its propensities."""
