"""Charts and pictures of a run, for the page, the terminal and papers; made from stored data alone."""
