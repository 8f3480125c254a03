"""Contracts between the harness and everyone who extends it."""
