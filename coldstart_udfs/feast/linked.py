"""On-demand views of a link: the profile that a user of another shop has here, computed when it is read.

As in `coldstart_udfs.feast.views`, the registered source imports `Linker` and calls it with its parameters, among them
the digest of the link's arrays: `feast apply` shows a new link in its diff, and a process that finds another one on
disk raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.link import Link, LinkAbout, link_folder, read_manifest, same_encoders
from coldstart_udfs.profile import Vectors, usable_rows

if TYPE_CHECKING:
    import pandas as pd
    from feast import Entity, FeatureView, OnDemandFeatureView

# The view of the source shop's profiles, and its file in the repository's data folder.
LINKED_PROFILES = "linked_profiles"
LINKED_FILE = f"{LINKED_PROFILES}.parquet"

_SOURCE = """\
def {view}(inputs):
    from coldstart_udfs.feast import Linker

    return Linker(folder={folder!r}, arrays={arrays!r}).{method}(inputs)
"""


class LinkedViews(NamedTuple):
    """The views of a link. Assign them to three module-level names.

    Attributes:
        profiles: the source shop's profiles of the users who agreed, as `coldstart link` has copied them.
        serving: `mode="python"`, for online reads.
        training: `mode="pandas"`, for history; with the same features.
    """

    profiles: FeatureView
    serving: OnDemandFeatureView
    training: OnDemandFeatureView


@dataclass(frozen=True)
class Linker:
    """The function of the views: registries hold calls of this class, so its arguments cannot be renamed.

    Attributes:
        folder: of the link.
        arrays: name of the link's file of arrays, which has the digest in it.
    """

    folder: str
    arrays: str

    def columns(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Map columns of plain Python lists: for online reads, each output under its short and its full name.

        Raises:
            FingerprintError: the profiles are of another encoder than the link's.
            ColdStartError: the link on disk is another one.
        """
        mapped, known = self._mapped(inputs)
        plain: dict[str, list[Any]] = {"user_linked_profile": mapped.tolist(), "user_is_linked": known}
        return {**plain, **{f"user_linked__{name}": values for name, values in plain.items()}}

    def frame(self, inputs: pd.DataFrame) -> pd.DataFrame:
        """Map a data frame: for history. Otherwise as `columns`."""
        import pandas as pd

        mapped, known = self._mapped(inputs)
        return pd.DataFrame({"user_linked_profile": list(mapped), "user_is_linked": known}, index=inputs.index)

    def _mapped(self, inputs: Any) -> tuple[Vectors, list[bool]]:
        link = self._link()
        values, width = list(inputs["user_source_profile"]), len(link.centre)
        there = [isinstance(value, (list, np.ndarray)) and len(value) == width for value in values]
        for name in {name for name in inputs["user_source_fingerprint"] if isinstance(name, str)} - {"hello world"}:
            same_encoders(link.about, source=name)
        profiles = np.zeros((len(values), width), dtype=np.float32)
        for row in np.flatnonzero(there).tolist():
            profiles[row] = values[row]
        profiles[~usable_rows(profiles, "user_source_profile")] = 0
        return link.mapped(profiles), np.asarray(profiles.any(axis=1)).tolist()

    def _link(self) -> Link:
        folder = Path(self.folder)
        found = read_manifest(folder)["arrays"]
        if found != self.arrays:
            raise ColdStartError(
                f"the link in {folder} is {found}, the view user_linked was applied with {self.arrays}; run `feast "
                "apply`"
            )
        return Link.read(folder)


def linked_views(repo: Path, user: Entity) -> LinkedViews:
    """Views of a repository that `coldstart link` has linked to another shop.

    Args:
        repo: the repository.
        user: the entity with the join key user_id; its ids are those of both shops.

    Returns:
        The view `linked_profiles` with `user_source_profile`, `user_source_evidence` and `user_source_fingerprint`;
        `user_linked` and `user_linked_training` with `user_linked_profile`, the expected unit profile in this shop
        (zero for users who are not linked), and `user_is_linked`.

    Raises:
        ColdStartError: there is no link, or it cannot be read.
    """
    from feast import FeatureView, Field, FileSource, OnDemandFeatureView
    from feast.data_format import ParquetFormat
    from feast.types import Array, Bool, Float32, Int64, String

    folder = link_folder(repo).resolve()
    about: LinkAbout = Link.read(folder).about
    profiles = FeatureView(
        name=LINKED_PROFILES,
        entities=[user],
        schema=[
            Field(name="user_source_profile", dtype=Array(Float32)),
            Field(name="user_source_evidence", dtype=Int64),
            Field(name="user_source_fingerprint", dtype=String),
        ],
        source=FileSource(
            name=f"{LINKED_PROFILES}_source", path=f"data/{LINKED_FILE}", file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
        ),
        description=f"Profiles in {about.source} of the users who agreed",
    )  # fmt: skip
    inputs = profiles[["user_source_profile", "user_source_fingerprint"]]

    def view(name: str, mode: str, method: str) -> OnDemandFeatureView:
        source = _SOURCE.format(
            view=name, folder=str(folder), arrays=read_manifest(folder)["arrays"], method=method
        )
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(source, namespace)  # noqa: S102 - the text above, as Feast itself does it # nosec B102
        return OnDemandFeatureView(
            name=name, sources=[inputs], mode=mode, udf=namespace[name], udf_string=source,
            schema=[Field(name="user_linked_profile", dtype=Array(Float32)), Field(name="user_is_linked", dtype=Bool)],
            description="the profile here of a user of another shop",
        )  # fmt: skip

    return LinkedViews(
        profiles, view("user_linked", "python", "columns"), view("user_linked_training", "pandas", "frame")
    )
