"""Interviews: what to ask a new user, and the list after their answers."""
