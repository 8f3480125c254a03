"""Finds, loads and looks up plugins, and reports the broken ones.

Plugins come from four places: built in, entry points, plugin folders and plugin files. This room must not know what a
run does with a plugin, and importing third-party code must not change the state of the process.
"""

from __future__ import annotations

from benchbox.registry.catalogue import Broken, Entry, Registry
from benchbox.registry.finding import (
    TRIAL_S,
    Importing,
    PluginEvent,
    SlowImport,
    answer_each,
    load_registry,
    plugin_sources,
    try_each,
)
from benchbox.registry.loading import HOOKS, first_line, load_module, load_plugin

__all__ = [
    "HOOKS",
    "TRIAL_S",
    "Broken",
    "Entry",
    "Importing",
    "PluginEvent",
    "Registry",
    "SlowImport",
    "answer_each",
    "first_line",
    "load_module",
    "load_plugin",
    "load_registry",
    "plugin_sources",
    "try_each",
]
