"""The site: `make docs` builds it from the Markdown here, and fails where a link is dead."""

project = "jaxnn"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True
myst_heading_anchors = 3  # a link to #a-heading, as GitHub knows it
html_theme = "furo"
html_title = project
html_copy_source = html_use_index = False
