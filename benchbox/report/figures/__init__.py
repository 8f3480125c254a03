"""Charts and pictures of a run, for the HTML page, the terminal and papers.

Made from stored scores, samples and previews alone. This room must not know how a page is laid out.
"""
