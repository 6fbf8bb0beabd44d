"""Cold-start features from text: a sentence encoder, the profile kernel, and DuckDB functions on them.

`Encoder` turns descriptions into vectors, `ImageEncoder` pictures; a `PictureMap` takes pictures into the space of
descriptions. A `Classifier` labels texts by examples. `register(con)` and `connect(path)` give DuckDB `embed()`,
`enrich()` and the other SQL functions. `install_stubs(con)` makes views over them fail with a useful message where they
are not registered. `coldstart_udfs.profile` holds the arithmetic, `coldstart_udfs.feast` the feature views. Importing
this package loads neither the encoder nor DuckDB nor Feast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder
    from coldstart_udfs.encoder.images.encoder import ImageEncoder
    from coldstart_udfs.encoder.images.mapping import PictureMap
    from coldstart_udfs.sql.connection import connect, install_stubs, register
    from coldstart_udfs.text.classify import Classifier

__all__ = ["Classifier", "Encoder", "ImageEncoder", "PictureMap", "connect", "install_stubs", "register"]

_HOMES = {
    "Classifier": "coldstart_udfs.text.classify",
    "Encoder": "coldstart_udfs.encoder.encoder",
    "ImageEncoder": "coldstart_udfs.encoder.images.encoder",
    "PictureMap": "coldstart_udfs.encoder.images.mapping",
    "connect": "coldstart_udfs.sql.connection",
    "install_stubs": "coldstart_udfs.sql.connection",
    "register": "coldstart_udfs.sql.connection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
