"""Charts and pictures of a run, for the HTML page, the terminal and papers.

Everything is computed from stored scores, samples and previews. This room must not know how a page is laid out.
"""
