"""The vector cache, on disk and in memory."""
