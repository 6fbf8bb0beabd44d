"""How Sphinx builds these pages: `make docs`."""

project = "feast-coldstart"
author = "the feast-coldstart authors"
copyright = "the feast-coldstart authors, licensed under Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
# Links to headings: [text](page.md#a-heading).
myst_heading_anchors = 4
nitpicky = True
# The lexer of SQL does not know the structs of DuckDB, {'name': value}; it colours the rest all the same.
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "furo"
html_title = "feast-coldstart"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
