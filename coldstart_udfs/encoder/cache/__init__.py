"""Vectors on disk and in memory, so that no text is encoded twice."""
