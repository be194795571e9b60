"""Sphinx configuration."""

import os
import re
import sys
from importlib.metadata import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference

about = metadata("scmimic")
project = about["Name"]
author = about["Author"]
copyright = f"2026, {author}"
version = release = about["Version"]
source = dict(link.split(", ") for link in about.get_all("Project-URL"))["Source"]

extensions = [
    "mathml",
    "myst_nb",
    "results",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
# What others document is linked where there is a network.
if os.environ.get("SCMIMIC_DOCS_INTERSPHINX") or os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        name: (f"https://{place}/", None)
        for name, place in {
            "anndata": "anndata.readthedocs.io/en/stable",
            "lightning": "lightning.ai/docs/pytorch/stable",
            "matplotlib": "matplotlib.org/stable",
            "mudata": "mudata.readthedocs.io/stable",
            "numpy": "numpy.org/doc/stable",
            "pandas": "pandas.pydata.org/docs",
            "python": "docs.python.org/3",
            "scanpy": "scanpy.readthedocs.io/en/stable",
            "scipy": "docs.scipy.org/doc/scipy",
            "scvi": "docs.scvi-tools.org/en/stable",
            "sklearn": "scikit-learn.org/stable",
            "torch": "docs.pytorch.org/docs/stable",
        }.items()
    }

html_theme = "sphinx_book_theme"
html_title = "scmimic"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_js_files = ["breaks.js"]
html_math_renderer = "mathml"
html_theme_options = {
    "repository_url": source,
    "repository_branch": "main",
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_source_button": True,
    # the sidebar has a field for it
    "navbar_persistent": [],
}
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# Names of scmimic that others may use must lead somewhere; those of others do where there is a network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!scmimic\.).*"), (r"py:.*", r"scmimic\.(.*\._|module\.).*")]

# `name` in a docstring is code
default_role = "literal"
autosummary_generate = True
# what it holds are functions
suppress_warnings = ["config.cache"]
autosummary_context = {"class_members": reference.members, "guide_pages": reference.guides}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
templates_path = ["_templates"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"


def _prepare(app, what, name, obj, options, lines):
    """Docstrings as napoleon and docutils should see them."""
    # the list that scvi-tools' docstrings cite from is not here
    lines[:] = [re.sub(r":cite:p:`(\w+)`", r"(\1)", line) for line in lines]
    if what == "attribute":
        # in a first line napoleon takes what stands before a colon for a type
        lines.insert(0, "")


def _unbold(app, what, name, obj, options, lines):
    """Code that napoleon has made bold: the first marks would hide the second."""
    lines[:] = [re.sub(r"\*\*(`[^*]+)\*\*", r"\1", line) for line in lines]


def setup(app):
    """Register what runs before and after napoleon."""
    app.connect("autodoc-process-docstring", _prepare, priority=400)
    app.connect("autodoc-process-docstring", _unbold, priority=600)
