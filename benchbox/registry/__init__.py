"""Finds, loads and looks up plugins through four doors, and reports the broken ones."""

from __future__ import annotations

from benchbox.registry.finding import Importing, PluginEvent, SlowImport, load_registry
from benchbox.registry.modules import load_class, load_module
from benchbox.registry.shelves import Broken, Entry, Registry

__all__ = [
    "Broken",
    "Entry",
    "Importing",
    "PluginEvent",
    "Registry",
    "SlowImport",
    "load_class",
    "load_module",
    "load_registry",
]
