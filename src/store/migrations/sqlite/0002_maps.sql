-- By what of the person the line of the map let them in, and what that rested on. Leases of before
-- have nothing here.
ALTER TABLE lease ADD COLUMN because TEXT; -- JSON

-- Every revision of the map by which a decision was made, as it was read.
CREATE TABLE map_revision (
    revision      TEXT    NOT NULL PRIMARY KEY, -- what lease.map_revision and the audit name
    postgres      INTEGER NOT NULL,             -- the major whose language it was read in
    text          TEXT    NOT NULL,             -- JSON: the files, byte for byte
    first_used_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER map_revision_is_not_updated BEFORE UPDATE ON map_revision
BEGIN
    SELECT raise(ABORT, 'revisions of the map are never changed');
END;

CREATE TRIGGER map_revision_is_not_deleted BEFORE DELETE ON map_revision
BEGIN
    SELECT raise(ABORT, 'revisions of the map are never deleted');
END;
