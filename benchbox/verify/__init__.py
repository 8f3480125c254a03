"""Whether benchbox measures what is known: its own parts against formulas, denoisers against published numbers.

`internal.py` checks the ruler without any data. `claims.py` reads published numbers, recognises the images they are
about, runs what they need and compares. Nothing here prints, and no number is kept that was not published.
"""
