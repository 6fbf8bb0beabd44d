"""What is done to one entity of a Feast repository (put, forget), and skew."""
