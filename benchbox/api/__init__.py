"""What a plugin author sees: the base classes, the four hooks, the array types and the error class.

This is the lowest room. It imports no other room and must not know runs, files, processes or the installed plugins.
"""
