"""RDF files as a table of facts."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa

from coldstart_udfs.quoting import quote_name
from recommender.data.contract import OBJECT, PREDICATE, SUBJECT, ContractError

# JSON-LD is not here: its contexts may be fetched from the network.
_FORMATS = {".ttl": "turtle", ".nt": "nt", ".rdf": "xml", ".owl": "xml"}
# How a node without a name begins.
BLANK = "_:"


def is_rdf(path: Path) -> bool:
    """Whether the ending of a file is that of Turtle, N-Triples or RDF/XML.

    >>> is_rdf(Path("facts.TTL")), is_rdf(Path("facts.csv"))
    (True, False)
    """
    return path.suffix.lower() in _FORMATS


def read_rdf(con: duckdb.DuckDBPyConnection, path: Path, table: str) -> None:
    """Create a table of subject, predicate and object from an RDF file.

    An IRI becomes what stands after its last "#" or "/", percent-decoded; IRIs that would become one name stay whole.
    A literal becomes its text. A node without a name becomes "_:" and a number.

    Args:
        con: a connection.
        path: a file ending in .ttl, .nt, .rdf or .owl.
        table: the name of the table to create.

    Raises:
        ContractError: the file cannot be read, or rdflib is not installed.
    """
    try:
        from rdflib import BNode, Graph, URIRef
    except ImportError:
        raise ContractError(
            f"{path} is RDF, which needs rdflib: run `pip install 'feast-coldstart[rdf]'`, or give the facts as CSV"
        ) from None
    graph = Graph()
    # rdflib logs literals that do not fit their type; here they are texts.
    quiet = logging.getLogger("rdflib.term")
    before, quiet.level = quiet.level, logging.CRITICAL
    try:
        graph.parse(path, format=_FORMATS[path.suffix.lower()], publicID=path.absolute().as_uri())
    except Exception as error:  # each of rdflib's parsers has errors of its own
        said = " ".join(str(error).split())[:300]
        raise ContractError(f"{path} cannot be read as {_FORMATS[path.suffix.lower()]}: {said}") from None
    finally:
        quiet.level = before
    triples = sorted(graph)
    short: dict[str, set[str]] = defaultdict(set)
    for triple in triples:
        for node in triple:
            if isinstance(node, URIRef):
                short[_name(node)].add(str(node))
    blank: dict[str, str] = {}

    def told(node: Any) -> str:
        if isinstance(node, URIRef):
            name = _name(node)
            return name if name and len(short[name]) == 1 else str(node)
        if isinstance(node, BNode):
            return blank.setdefault(str(node), f"{BLANK}{len(blank)}")
        return str(node)

    columns = list(zip(*([told(node) for node in triple] for triple in triples), strict=True)) or [(), (), ()]
    rows = pa.table({name: pa.array(values, pa.string())
                     for name, values in zip((SUBJECT, PREDICATE, OBJECT), columns, strict=True)})  # fmt: skip
    con.register("coldstart_triples", rows)
    con.execute(f"CREATE TABLE {quote_name(table)} AS FROM coldstart_triples")
    con.unregister("coldstart_triples")


def _name(iri: str) -> str:
    return unquote(iri.rstrip("/#").replace("#", "/").rpartition("/")[2])
