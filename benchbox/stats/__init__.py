"""Intervals, paired tests, rank groups, latency summaries: pure, from raw scores; nothing is read or written here."""
