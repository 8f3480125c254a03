"""The records of a run: specifications and options, run.json, outcomes, tuned options.

Records are frozen dataclasses with plain values that know how they are parsed, checked and written. This room must not
know where a record is stored, how a run works, or which plugins exist.
"""
