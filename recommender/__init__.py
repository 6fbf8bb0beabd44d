"""Hybrid recommendations for strangers: LightFM on hybrid features plus the enriched-profile score."""
