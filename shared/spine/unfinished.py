"""Which projects have as much unfinished work as they may. For the role `spine`."""

from __future__ import annotations

from sqlalchemy import TextClause, text

# Pairs of queue and project are found by skipping through the index `deliveries_due`, and of each
# pair the index alone is read, up to the limit.
_FULL = text("""
    WITH RECURSIVE pairs AS (
        (SELECT queue, project FROM spine.deliveries ORDER BY queue, project LIMIT 1)
        UNION ALL
        SELECT further.queue, further.project FROM pairs CROSS JOIN LATERAL (
            SELECT d.queue, d.project FROM spine.deliveries AS d
            WHERE (d.queue, d.project) > (pairs.queue, pairs.project)
            ORDER BY d.queue, d.project LIMIT 1) AS further)
    SELECT pairs.project, sum(counted.unfinished) AS unfinished
    FROM pairs CROSS JOIN LATERAL (
        SELECT count(*) AS unfinished FROM (
            SELECT FROM spine.deliveries AS d
            WHERE d.queue = pairs.queue AND d.project = pairs.project
            LIMIT :most) AS found) AS counted
    GROUP BY pairs.project HAVING sum(counted.unfinished) >= :most
""")


def full_projects(most: int) -> TextClause:
    """
    The query for projects with *most* unfinished deliveries or more, those due later included.

    Cost: O(queues x projects + unfinished deliveries), of a project at most *most* a queue.
    """
    return _FULL.bindparams(most=most)
