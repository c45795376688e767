-- By what of the person the line of the map let them in, and what that rested on. Leases of before
-- have nothing here.
ALTER TABLE lease ADD COLUMN because text; -- JSON

-- Every revision of the map by which a decision was made, as it was read.
CREATE TABLE map_revision (
    revision      text        COLLATE "C" NOT NULL PRIMARY KEY, -- what lease.map_revision and the audit name
    postgres      bigint      NOT NULL, -- the major whose language it was read in
    text          text        NOT NULL, -- JSON: the files, byte for byte
    first_used_at timestamptz NOT NULL
);

CREATE FUNCTION map_revision_is_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'revisions of the map are never changed and never deleted';
END
$$;
CREATE TRIGGER map_revision_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON map_revision
    FOR EACH STATEMENT EXECUTE FUNCTION map_revision_is_kept();
ALTER TABLE map_revision ENABLE ALWAYS TRIGGER map_revision_is_kept;
