"""``python -m benchbox``: the same as the command ``benchbox``."""

from __future__ import annotations

from benchbox.cli import main

if __name__ == "__main__":
    main()
