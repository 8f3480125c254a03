"""Was an image seen before? Duplicates, overlapping splits, and contamination of training data.

This room works on image sets and training cards. It must not know how a run is planned or scored, or how its findings
are worded and shown.
"""
