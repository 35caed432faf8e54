"""All that is measured, in the order of the table."""

from __future__ import annotations

from bench import calls, ends, installation, launchers, output, payloads, rust, spawn, standing

THEMES = [module.THEME for module in (spawn, standing, calls, payloads, ends, launchers, output, installation, rust)]
FIGURES = [figure for theme in THEMES for figure in theme.figures]
