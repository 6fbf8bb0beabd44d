"""Jobs between the tables, the feature store and a bundle."""
