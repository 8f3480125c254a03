"""benchbox: a fair, fast, trustworthy benchmark of image denoisers.

Public names are imported on first use, so `import benchbox` is fast. A plugin needs nothing else: everything an author
may rely on is here or in `benchbox.testing`.
"""

import lazy_loader

# `__init__.pyi` lists the public names and their modules. Each is imported on first use, so that `benchbox --help`
# imports almost nothing.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
