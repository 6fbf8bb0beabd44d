"""How Sphinx builds these pages: `make docs`."""

project = "feast-coldstart"
author = "the feast-coldstart authors"
copyright = "Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
# Links to headings: [text](page.md#a-heading).
myst_heading_anchors = 4
nitpicky = True
html_theme = "furo"
html_title = "feast-coldstart"
# Nothing is fetched when a page is read, either.
html_copy_source = False
html_show_sphinx = False
