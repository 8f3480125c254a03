"""Statistics from raw scores and latencies: intervals, paired tests, ranks, summaries.

Pure functions of arrays. This room must not know runs, files, denoisers by name, or how a number is displayed.
"""
