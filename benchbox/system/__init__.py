"""Processes and files that benchbox does not trust.

Runs programs and kills everything they started, reads files up to a size limit, writes them atomically, caches
results, and makes foreign text printable. This room must not know denoisers, images or runs.
"""
