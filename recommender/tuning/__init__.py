"""Parameters chosen on held-out rankings."""
