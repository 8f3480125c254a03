"""Was an image seen before? Duplicates, splits that overlap, and contamination of training data."""
