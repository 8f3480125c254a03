"""benchbox: a fair, fast, trustworthy benchmark of image denoisers.

The public names, imported when they are first used, so that `import benchbox` loads nothing heavy. A plugin needs
nothing else: everything an author may rely on is here or in `benchbox.testing`.
"""

import lazy_loader

# `__init__.pyi` beside this file lists the public names and where they live. Each is imported when it is first asked
# for, so that `benchbox --help` imports next to nothing.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
