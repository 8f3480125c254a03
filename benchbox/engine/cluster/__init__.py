"""Scoring on several machines: what travels, what each machine does with it, and the engine for Dask.

`parcels` and `machine` know no cluster system: bytes in, bytes out. A plugin always runs in a child process of the
machine's worker, under the limits of the run. The modules that import Dask (`dispatch` and `dask_...`)
are imported by nothing else: the engine is found by its entry point.
"""
