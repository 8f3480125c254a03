"""Finds, loads and looks up plugins through four doors, and reports the broken ones."""

from __future__ import annotations

from benchbox.registry.catalogue import Broken, Entry, Registry
from benchbox.registry.finding import Importing, PluginEvent, SlowImport, load_registry
from benchbox.registry.loading import load_class, load_module

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
