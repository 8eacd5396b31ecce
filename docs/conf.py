"""Sphinx: `sphinx-build -W docs docs/_build`."""

project = "carousel"
author = "the carousel authors"

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "carousel"
exclude_patterns = ["_build"]
