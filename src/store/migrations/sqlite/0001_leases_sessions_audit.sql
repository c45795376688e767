-- Times are whole nanoseconds since 1970-01-01 00:00 UTC. To read one:
--   SELECT datetime(expires_at / 1000000000, 'unixepoch') FROM lease;

CREATE TABLE lease (
    id              TEXT    NOT NULL PRIMARY KEY,
    version         INTEGER NOT NULL CHECK (version > 0),
    state           TEXT    NOT NULL,
    principal       TEXT    NOT NULL, -- JSON
    principal_key   TEXT    NOT NULL, -- method:issuer:subject
    cluster         TEXT    NOT NULL,
    database        TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    role_name       TEXT    NOT NULL,
    role_oid        INTEGER,
    requested_at    INTEGER NOT NULL,
    create_before   INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    ceiling         INTEGER NOT NULL,
    owned_objects   TEXT    NOT NULL,
    request_key     TEXT,
    reason          TEXT,
    client          TEXT    NOT NULL,
    rule            TEXT    NOT NULL, -- JSON
    map_revision    TEXT    NOT NULL,
    end_reason      TEXT,
    access_ended_at INTEGER,
    gone_at         INTEGER,
    attempts        INTEGER NOT NULL,
    retry_at        INTEGER,
    blockers        TEXT, -- JSON
    -- When the broker must act next without being asked. An ending lease without a time for its
    -- next attempt is due at once: it is never forgotten.
    due_at          INTEGER GENERATED ALWAYS AS (
        CASE state
            WHEN 'active' THEN expires_at
            WHEN 'revoking' THEN coalesce(retry_at, requested_at)
            WHEN 'quarantined' THEN coalesce(retry_at, requested_at)
        END
    ) VIRTUAL
) STRICT;

-- One live lease for one wish of one person.
CREATE UNIQUE INDEX lease_live_key ON lease (principal_key, request_key)
    WHERE request_key IS NOT NULL AND state IN ('intent', 'active');
CREATE INDEX lease_due ON lease (cluster, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX lease_of_person ON lease (principal_key, requested_at, id);
CREATE INDEX lease_of_cluster ON lease (cluster, state, requested_at, id);
CREATE INDEX lease_by_age ON lease (requested_at, id);
CREATE INDEX lease_of_gone_role ON lease (cluster, role_oid) WHERE gone_at IS NOT NULL;
-- Always empty, so that looking for what an older broker cannot understand costs nothing.
CREATE INDEX lease_unknown ON lease (id)
    WHERE state NOT IN ('intent', 'active', 'revoking', 'quarantined', 'revoked', 'aborted');

CREATE TABLE session (
    id               TEXT    NOT NULL PRIMARY KEY,
    token_hash       TEXT    NOT NULL UNIQUE,
    identity         TEXT    NOT NULL, -- JSON
    authenticated_at INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    seen_at          INTEGER NOT NULL,
    principal_key    TEXT    NOT NULL, -- method:issuer:subject
    principal_text   TEXT    NOT NULL  -- method:subject
) STRICT;
CREATE INDEX session_of_person ON session (principal_key);
CREATE INDEX session_of_person_as_printed ON session (principal_text);

-- Nothing that this person proved before this moment counts any more.
CREATE TABLE logins_ended (
    person TEXT    NOT NULL PRIMARY KEY, -- method:issuer:subject, or method:subject
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    counter      TEXT    NOT NULL PRIMARY KEY,
    count        INTEGER NOT NULL,
    since        INTEGER NOT NULL,
    locked_until INTEGER,
    over_at      INTEGER NOT NULL -- from then on the counter is as if it had never been
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    record TEXT    NOT NULL -- one line of JSON, exactly as it was hashed, signed or exported
) STRICT;

CREATE TRIGGER audit_is_gap_free BEFORE INSERT ON audit
WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN
    SELECT raise(ABORT, 'audit records are numbered without gaps and never replaced');
END;

CREATE TRIGGER audit_is_not_updated BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit records are never changed');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
    SELECT raise(ABORT, 'audit records are never deleted');
END;

-- One row, written to find out whether writing works.
CREATE TABLE probe (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO probe (id, count) VALUES (1, 0);

-- What somebody has now, whatever they had before: to count it, and to look through it again.
CREATE INDEX lease_live_of_person ON lease (principal_key, cluster, role, id)
    WHERE state IN ('intent', 'active');
-- What of somebody's is not over, to count it.
CREATE INDEX lease_unfinished_of_person ON lease (principal_key, cluster, role)
    WHERE state NOT IN ('revoked', 'aborted');

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
