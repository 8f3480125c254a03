"""Processes and files that benchbox does not trust.

Runs a program and ends everything it started, reads files up to a limit, writes them atomically, caches results, and
makes foreign text printable. This room must not know denoisers, images or runs.
"""
