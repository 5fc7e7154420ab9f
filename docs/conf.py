"""Sphinx settings: the pages are Markdown (MyST), the reference comes from docstrings."""

import lsmdbm

project = "lsmdbm"
author = "The lsmdbm authors"
copyright = "the lsmdbm authors"  # noqa: A001 - the name Sphinx reads
release = version = lsmdbm.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Requires", "Durability"]

html_theme = "furo"
html_title = f"lsmdbm {release}"
html_static_path = ["static"]
html_css_files = ["narrow.css"]
