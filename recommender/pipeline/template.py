"""The Feast repository that `coldstart init` copies."""

from __future__ import annotations

from pathlib import Path

import coldstart_udfs


def template() -> Path:
    """Its folder: beside the packages in a clone, inside the wheel otherwise."""
    package = Path(coldstart_udfs.__file__).parent
    installed = package / "feature_repo_template"
    return installed if installed.is_dir() else package.parent / "feature_repo"
