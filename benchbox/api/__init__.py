"""The contracts that a plugin author sees, and nothing else.

Base classes of denoisers, noise models, data sets and metrics, the four hooks, the array types and the error class.
This is the lowest room: it knows nothing of runs, files, processes or plugins that exist, and imports no other room.
"""
