"""One run: the plan, the quality pass, the timing pass, and what builds on them (resume, replay, merge, tune).

The engine runs denoisers in separate processes and reports events to its caller. It must not print, rank or draw
anything; reports are made later, from the files of the run.
"""
