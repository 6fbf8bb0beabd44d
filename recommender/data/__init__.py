"""The data contract, and what the recommender learns from."""
