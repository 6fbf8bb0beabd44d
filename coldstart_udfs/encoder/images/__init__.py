"""Pictures: safe reading, encoders for them, and the map from their space into that of texts."""
