"""A/B tests: who sees which version of the recommender, what came of it, and what may be concluded."""
