"""The sentence encoder: weights, backends, bulk jobs, and the vector cache."""
