"""The query of `campaign_audience()`: who is contacted, within a budget."""

from __future__ import annotations


def _limit(name: str) -> str:
    """A parameter of campaign_audience() that is 0 or more, or NULL. NaN is above infinity for DuckDB."""
    return f"""CASE WHEN coalesce(CAST("{name}" AS DOUBLE) BETWEEN 0 AND CAST('inf' AS DOUBLE), true)
            THEN CAST("{name}" AS DOUBLE)
            ELSE CAST(error('campaign_audience(): {name} is ' || CAST("{name}" AS VARCHAR)
                || '; it must be 0 or more, or NULL for no limit') AS DOUBLE) END"""


# Parameters are seen before columns of the same names, so that candidates may have a column cost. A budget of 0.3 is
# enough for three contacts at 0.1, though the sum of three 0.1 is above 0.3.
CAMPAIGN_AUDIENCE = f"""
SELECT COLUMNS(lambda c: lower(c) NOT IN
        ('rank', 'spent', '_coldstart_rank', '_coldstart_nth', '_coldstart_cost', '_coldstart_probability')),
    _coldstart_rank AS rank, _coldstart_rank * _coldstart_cost AS spent
FROM (
    SELECT *, row_number() OVER (ORDER BY _coldstart_probability DESC, user_id) AS _coldstart_rank
    FROM (
        SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY _coldstart_probability DESC) AS _coldstart_nth
        FROM (
            SELECT *,
                CASE WHEN coalesce(CAST(probability AS DOUBLE) BETWEEN 0 AND 1, true) THEN CAST(probability AS DOUBLE)
                    ELSE CAST(error('campaign_audience(): a probability is ' || CAST(probability AS VARCHAR)
                        || '; it must be between 0 and 1') AS DOUBLE) END AS _coldstart_probability,
                CASE WHEN coalesce(CAST(cost AS DOUBLE) > 0 AND isfinite(CAST(cost AS DOUBLE)), false)
                    THEN CAST(cost AS DOUBLE)
                    ELSE CAST(error('campaign_audience(): cost is ' || coalesce(CAST(cost AS VARCHAR), 'NULL')
                        || '; it is that of one contact, above 0') AS DOUBLE) END AS _coldstart_cost
            FROM (
                SELECT * REPLACE (coalesce(contacts, 0) AS contacts)
                FROM (FROM query_table(candidates) UNION ALL BY NAME SELECT NULL::BIGINT AS contacts WHERE false)
            )
        )
        WHERE _coldstart_probability > 0 AND user_id IS NOT NULL
    )
    WHERE coalesce(_coldstart_probability * {_limit("value")} > _coldstart_cost, true)
        AND coalesce(contacts + _coldstart_nth <= floor({_limit("cap")}), true)
)
WHERE coalesce(_coldstart_rank * _coldstart_cost <= {_limit("budget")} * (1 + 1e-9), true)
ORDER BY rank
"""
