"""Statistics from raw scores and latencies: intervals, significant differences, ranges of ranks, summaries.

Pure functions of arrays. This room must not know runs, files, denoisers by name, or how a number is displayed.
"""
