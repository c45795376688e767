-- What somebody has now, whatever they had before: to count it, and to look through it again.
CREATE INDEX lease_live_of_person ON lease (principal_key, cluster, role)
    WHERE state IN ('intent', 'active');
