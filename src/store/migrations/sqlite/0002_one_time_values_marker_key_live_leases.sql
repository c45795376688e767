-- Values that are accepted once, by their hash, until a moment.
CREATE TABLE spent (
    kind  TEXT    NOT NULL,
    hash  TEXT    NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (kind, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_until ON spent (until);

-- The marker key in force, by its fingerprint. One row, or none before the first start.
CREATE TABLE marker_key (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    fingerprint TEXT    NOT NULL
) STRICT;

-- What a cluster is held against. A state that is not known is not final.
CREATE INDEX lease_live ON lease (cluster, id) WHERE state NOT IN ('revoked', 'aborted');
