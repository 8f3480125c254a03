"""Processes and files that are not trusted: run a program and end all it started, bounded reads, atomic writes.

Knows nothing of denoisers, images or runs.
"""
