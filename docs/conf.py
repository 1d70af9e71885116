"""Configuration of Sphinx; built by `nox -s docs`, in which every warning is an error."""

from __future__ import annotations

import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "scratio_sc"
author = "scratio_sc contributors"
copyright = f"2026, {author}"
version = release = metadata.version("scratio-sc")

# the notebooks lie where readers of the repository look for them; Sphinx reads what lies below docs/
here = Path(__file__).parent
for notebook in (here.parent / "tutorials").glob("*.ipynb"):
    shutil.copyfile(notebook, here / "tutorials" / notebook.name)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",  # after napoleon
    "sphinx_copybutton",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "registry", "method/comparison_tables.md"]  # the last is included
default_role = "literal"  # `adata.obs` in docstrings

nb_execution_mode = "off"  # `nox -s tutorials` runs the notebooks and keeps their outputs
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False  # names the slots that are written, not a return type
always_use_bars_union = True
typehints_defaults = "braces"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nitpicky = True
# The inventories of other projects are fetched only where there is a network to fetch them from. Without them the
# references into those projects cannot be resolved and are let through; our own are checked everywhere.
if os.environ.get("SCRATIO_DOCS_ONLINE") or os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
else:
    nitpick_ignore_regex = [(r"py:.*", rf"{root}(\..*)?") for root in ("anndata", "matplotlib", "numpy", "pandas")]
    nitpick_ignore_regex += [(r"py:.*", rf"{root}(\..*)?") for root in ("scanpy", "torch", "collections", "pathlib")]
    nitpick_ignore_regex += [
        (r"py:.*", r"(bool|dict|float|int|list|None|object|str|tuple)"),
        (r"py:.*", r"(typing|types|os)\..*"),
        (r"py:exc", r"\w+(Error|Warning|Interrupt)"),
    ]
    suppress_warnings = ["intersphinx.external"]

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
html_static_path = ["_static"]


def _slots_as_code(*event: Any) -> None:
    """Mend what napoleon makes of "`adata.obs['key']` : type": bold text with backticks in it."""
    lines = event[-1]
    lines[:] = [re.sub(r"\*\*(`.+?)\*\*", lambda slots: slots[1].replace("`", "``"), line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("autodoc-process-docstring", _slots_as_code, priority=900)  # after napoleon, which has 500
