"""How Sphinx builds the documentation; ``./scripts/docs`` runs it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from airflow_provider_cfqueues import __version__

REPOSITORY = "https://github.com/airflow-provider-cfqueues/airflow-provider-cfqueues"

project = "airflow-provider-cfqueues"
author = "airflow-provider-cfqueues maintainers"
project_copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build"]
nitpicky = True
# Names of Airflow, of the standard library and private ones have no page here.
# All others must lead somewhere.
nitpick_ignore_regex = [
    ("py:.*", r"(?!airflow_provider_cfqueues\.).*|airflow_provider_cfqueues\._.*")
]

myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = (
    "none"  # the docstrings say it; Airflow's own documentation shows none either
)

# A console block shows answers, too: copy only what was typed.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"airflow-provider-cfqueues {release}"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"


def link_to_repository(_app: Any, page: str, source: list[str]) -> None:
    """Let a link out of docs/ lead to the repository, where it is a path."""
    to_root = "../" * len(PurePosixPath("docs", page).parent.parts)
    source[0] = re.sub(
        rf"\]\({re.escape(to_root)}(?=[\w.])", f"]({REPOSITORY}/blob/main/", source[0]
    )


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", link_to_repository)
