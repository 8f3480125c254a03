"""Probes that check a denoiser against its contract, pytest fixtures, and the template of a plugin package.

This room tests one denoiser at a time. It must not know leaderboards or reports, and prints nothing.
"""

import lazy_loader

# `__init__.pyi` lists the public names. They are imported on first use, because pytest imports this package in
# every project that has benchbox installed.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
