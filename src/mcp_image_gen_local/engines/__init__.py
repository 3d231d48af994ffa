"""Engines: one module or package each, found by name; each exports `ENGINE`, which makes it from the settings."""
