"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str | None, typer.Option("--model", help="Folder or name; default: the embedded model.")]
RepoOption = Annotated[Path, typer.Option("--repo", help="The Feast repository.")]
BundleOption = Annotated[Path, typer.Option("--bundle", help="Folder of the trained recommender.")]
DataOption = Annotated[Path, typer.Option("--data", help="Folder with items, users and interactions.")]
REPO, BUNDLE, DATA = Path("feature_repo"), Path("data/bundle"), Path("data")
