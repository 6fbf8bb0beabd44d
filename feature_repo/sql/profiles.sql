-- What behaviour profiles P and their evidence n are sums of: the changes between two snapshots.
--
-- `coldstart profiles` runs this file once and reads the view for each snapshot, oldest first: the first day after each
-- month with events, and the end of the data. If events age, months without events have a snapshot too, for a year.
-- Variables: `previous` and `as_of`, the last snapshot and this one; `half_life_days`, infinite if events do not age. A
-- snapshot contains only events before `as_of`, so point-in-time reads do not see the future.
--
-- The rows of all snapshots so far, those of earlier ones aged to `as_of`, are then summed by `coldstart_udfs.profile`:
--
--   user_profile P_u = Σ weight·M(d_i) over the user's items; user_evidence = Σ times. If all events were returned, the
--     profile is exactly zero.
--   item_profile P_i = the mean of the unit vectors of P_u - weight·M(d_i) over its buyers, each without the item itself.
--     Buyers of this item only do not count; without buyers it is zero. item_evidence = Σ times.
--
-- A user has a row in every snapshot with changes, or in every one if events age; an item in every one since its first
-- change. Enrichment with the description happens when features are read; it is never stored.

CREATE VIEW profile_changes AS
SELECT
    user_id,
    item_id,
    sum(times) AS times,
    sum(weight * 0.5 ** ((epoch(getvariable('as_of')) - epoch(happened)) / 86400 / getvariable('half_life_days')))
        AS weight
FROM changes
JOIN item_descriptions USING (item_id)
WHERE changes.event_timestamp >= getvariable('previous')
  AND changes.event_timestamp < getvariable('as_of')
  AND item_embedding IS NOT NULL
GROUP BY user_id, item_id;
