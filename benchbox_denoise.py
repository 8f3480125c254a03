"""Entry point of the command `benchbox`; refuses to start if the package `benchbox` belongs to another project.

An unrelated project on PyPI is also called `benchbox` and installs a package of that name. The one installed last
overwrites files of the other, so this check is outside the package.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    if problem := problem_with_the_package():
        sys.stderr.write(
            f"error: {problem}\n"
            "hint: pip uninstall benchbox, then pip install --force-reinstall --no-deps benchbox-denoise "
            "(or -e . in a clone)\n"
        )
        sys.exit(2)
    from benchbox.cli import main as run

    run()


def problem_with_the_package() -> str:
    """Why the importable package `benchbox` is incomplete or not ours; empty if all is well."""
    spec = find_spec("benchbox")
    origin = spec.origin if spec else None
    if spec is None or origin is None:
        return "the package 'benchbox' of benchbox-denoise is missing or incomplete"
    package = Path(origin).parent
    if not (package / "api" / "hookspecs.py").is_file():
        return f"the package 'benchbox' in {package} belongs to another project, not to benchbox-denoise"
    if foreign := sorted(package.parent.glob("benchbox-*.dist-info")):
        name = foreign[0].name.removesuffix(".dist-info").replace("-", " ")
        return f"another project, {name}, has installed its files among those of benchbox-denoise, in {package}"
    return ""
