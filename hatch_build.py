"""Makes the README that PyPI shows: there, a path in the repository leads nowhere, so it becomes an address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ReadmeHook(MetadataHookInterface):
    """Gives the package's metadata the README, with links and pictures that lead to the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README to the metadata."""
        repository = metadata["urls"]["Source"]
        text = Path(self.root, "README.md").read_text()
        text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\1{repository}/raw/main/", text)
        text = re.sub(r"((?<!!)\[[^]]*\]\()(?!https?:|#)", rf"\1{repository}/blob/main/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
