-- Text cannot hold a NUL here. Where one may stand (names, reasons), it is written as ␀0, and the
-- character ␀ (U+2400) itself as ␀␀. Everything else reads as it is.
--
-- Names are compared and sorted by their bytes, so that no index depends on a locale.

-- One row: what every transaction that writes reads.
CREATE TABLE head (
    id             integer NOT NULL PRIMARY KEY CHECK (id = 1),
    schema_version integer NOT NULL,
    -- A pgbridge whose newest schema is older than this must not work here any more.
    oldest_schema  integer NOT NULL,
    audit_seq      bigint  NOT NULL, -- number of the newest audit record
    marker_key     text              -- fingerprint of the key that all brokers use
);
INSERT INTO head (id, schema_version, oldest_schema, audit_seq) VALUES (1, 0, 0, 0);

CREATE TABLE lease (
    id              text        COLLATE "C" NOT NULL PRIMARY KEY,
    version         bigint      NOT NULL CHECK (version > 0),
    state           text        COLLATE "C" NOT NULL,
    principal       text        NOT NULL, -- JSON
    principal_key   text        COLLATE "C" NOT NULL, -- method:issuer:subject
    cluster         text        COLLATE "C" NOT NULL,
    database        text        NOT NULL,
    role            text        COLLATE "C" NOT NULL,
    role_name       text        NOT NULL,
    role_oid        oid,
    requested_at    timestamptz NOT NULL,
    create_before   timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ceiling         timestamptz NOT NULL,
    owned_objects   text        NOT NULL,
    request_key     text        COLLATE "C",
    reason          text,
    client          text        NOT NULL,
    rule            text        NOT NULL, -- JSON
    map_revision    text        NOT NULL,
    end_reason      text,
    access_ended_at timestamptz,
    gone_at         timestamptz,
    attempts        bigint      NOT NULL,
    retry_at        timestamptz,
    blockers        text, -- JSON
    -- Which running broker makes an attempt at it, and until when nobody else does.
    claimed_by      text,
    claimed_until   timestamptz,
    -- When a broker must act next without being asked. An ending lease without a time for its
    -- next attempt is due at once: it is never forgotten.
    due_at          timestamptz GENERATED ALWAYS AS (
        CASE state
            WHEN 'active' THEN expires_at
            WHEN 'revoking' THEN coalesce(retry_at, requested_at)
            WHEN 'quarantined' THEN coalesce(retry_at, requested_at)
        END
    ) STORED
) WITH (fillfactor = 80); -- room for a claim in the same page, so that no index is touched

-- One live lease for one wish of one person.
CREATE UNIQUE INDEX lease_live_key ON lease (principal_key, request_key)
    WHERE request_key IS NOT NULL AND state IN ('intent', 'active');
CREATE INDEX lease_due ON lease (cluster, due_at, id) WHERE due_at IS NOT NULL;
-- What somebody has now, whatever they had before: to count it, and to look through it again.
CREATE INDEX lease_live_of_person ON lease (principal_key, cluster, role, id)
    WHERE state IN ('intent', 'active');
-- What of somebody's is not over, to count it.
CREATE INDEX lease_unfinished_of_person ON lease (principal_key, cluster, role)
    WHERE state NOT IN ('revoked', 'aborted');
CREATE INDEX lease_of_person ON lease (principal_key, requested_at, id);
CREATE INDEX lease_of_cluster ON lease (cluster, state, requested_at, id);
CREATE INDEX lease_by_age ON lease (requested_at, id);
CREATE INDEX lease_of_gone_role ON lease (cluster, role_oid) WHERE gone_at IS NOT NULL;
-- What a cluster is held against. A state that is not known is not final.
CREATE INDEX lease_live ON lease (cluster, id) WHERE state NOT IN ('revoked', 'aborted');
-- Always empty, so that looking for what an older broker cannot understand costs nothing.
CREATE INDEX lease_unknown ON lease (id)
    WHERE state NOT IN ('intent', 'active', 'revoking', 'quarantined', 'revoked', 'aborted');

CREATE TABLE session (
    id               text        COLLATE "C" NOT NULL PRIMARY KEY,
    token_hash       text        COLLATE "C" NOT NULL UNIQUE,
    identity         text        NOT NULL, -- JSON
    authenticated_at timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    seen_at          timestamptz NOT NULL,
    principal_key    text        COLLATE "C" NOT NULL, -- method:issuer:subject
    principal_text   text        COLLATE "C" NOT NULL  -- method:subject
);
CREATE INDEX session_of_person ON session (principal_key);
CREATE INDEX session_of_person_as_printed ON session (principal_text);

-- Nothing that this person proved before this moment counts any more.
CREATE TABLE logins_ended (
    person text        COLLATE "C" NOT NULL PRIMARY KEY, -- method:issuer:subject, or method:subject
    at     timestamptz NOT NULL
);

CREATE TABLE attempts (
    counter      text        COLLATE "C" NOT NULL PRIMARY KEY,
    count        bigint      NOT NULL,
    since        timestamptz NOT NULL,
    locked_until timestamptz,
    over_at      timestamptz NOT NULL -- from then on the counter is as if it had never been
);
CREATE INDEX attempts_over ON attempts (over_at);

-- Values that are accepted once, by their hash, until a moment.
CREATE TABLE spent (
    kind  text        COLLATE "C" NOT NULL,
    hash  text        COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (kind, hash)
);
CREATE INDEX spent_until ON spent (until);

CREATE TABLE audit (
    seq    bigint      NOT NULL PRIMARY KEY,
    at     timestamptz NOT NULL,
    record text        NOT NULL -- one line of JSON, exactly as it was hashed, signed or exported
);

-- Moves the head on by the records that were added, and refuses them unless they follow the
-- newest one without a gap. The row of the head is locked until the transaction ends, so records
-- become visible in the order of their numbers.
CREATE FUNCTION audit_is_gap_free() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest bigint;
BEGIN
    UPDATE pgbridge.head SET audit_seq = audit_seq + (SELECT count(*) FROM added)
        WHERE id = 1 RETURNING audit_seq INTO STRICT newest;
    IF (SELECT min(seq) <> newest - count(*) + 1 OR max(seq) <> newest FROM added) THEN
        RAISE EXCEPTION 'audit records are numbered without gaps and never replaced';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_is_gap_free AFTER INSERT ON audit REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_gap_free();

CREATE FUNCTION audit_is_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'audit records are never changed and never deleted';
END
$$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_kept();
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_is_kept;

-- One row, written to find out whether writing works.
CREATE TABLE probe (
    id    integer NOT NULL PRIMARY KEY CHECK (id = 1),
    count bigint  NOT NULL
);
INSERT INTO probe (id, count) VALUES (1, 0);
