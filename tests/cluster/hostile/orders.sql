-- All that a holder can think of, in a database where it may make schemas.
CREATE SCHEMA own;
CREATE SCHEMA "own""; DROP ROLE eve; --";
CREATE SCHEMA "a
b";
CREATE SCHEMA U&"zero\200Bwidth\202E";
CREATE SCHEMA "größe ＡＢＣ 'it''s' \";
CREATE SCHEMA "sixty_three_bytes_sixty_three_bytes_sixty_three_bytes_sixty_thr";
CREATE TABLE "own""; DROP ROLE eve; --"."t""; DROP TABLE sales.customer; --" ("c""; --" integer, "a
b" integer);
CREATE TABLE "a
b"."a
b" (LIKE "own""; DROP ROLE eve; --"."t""; DROP TABLE sales.customer; --");
CREATE FUNCTION U&"zero\200Bwidth\202E".U&"f\200B"(integer DEFAULT 1, VARIADIC "größe ＡＢＣ 'it''s' \" text[] DEFAULT '{}')
    RETURNS integer SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
CREATE TYPE "größe ＡＢＣ 'it''s' \"."t'" AS (a integer);
CREATE FUNCTION "größe ＡＢＣ 'it''s' \"."f'"("größe ＡＢＣ 'it''s' \"."t'") RETURNS integer SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
CREATE VIEW sixty_three_bytes_sixty_three_bytes_sixty_three_bytes_sixty_thr."v;" AS TABLE "a
b"."a
b";

CREATE TABLE own.parent (id serial PRIMARY KEY, other integer GENERATED ALWAYS AS IDENTITY, email text);
CREATE TABLE own.child (id integer REFERENCES own.parent, at date) PARTITION BY RANGE (at);
CREATE TABLE own.child_1 PARTITION OF own.child FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON own.child (at);
CREATE UNLOGGED TABLE own.fast (n integer);
CREATE VIEW own.spy AS SELECT * FROM sales.customer;
CREATE MATERIALIZED VIEW own.copy AS SELECT * FROM sales.customer;
CREATE STATISTICS own.both ON id, email FROM own.parent;
CREATE SEQUENCE own.loose;
CREATE TYPE own.mood AS ENUM ('sad');
CREATE TYPE own.span AS RANGE (subtype = integer);
CREATE TYPE own.pair AS (a integer, b own.mood);
CREATE DOMAIN own.small AS integer CHECK (VALUE < 10);
CREATE COLLATION own.plain FROM "C";
CREATE CONVERSION own.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY own.words (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION own.search (COPY = simple);
CREATE FUNCTION own.definer() RETURNS text SECURITY DEFINER LANGUAGE sql AS 'SELECT current_user::text';
CREATE FUNCTION own.invoker() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';
CREATE PROCEDURE own.proc() SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION own.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION own.cmp(own.pair, own.pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE AGGREGATE own.total(integer) (SFUNC = int4pl, STYPE = integer);
CREATE OPERATOR own.=== (LEFTARG = own.pair, RIGHTARG = own.pair, FUNCTION = own.cmp);
CREATE CAST (own.pair AS text) WITH INOUT;
CREATE TRIGGER fire BEFORE INSERT ON own.parent FOR EACH ROW EXECUTE FUNCTION own.fire();
CREATE RULE nothing AS ON DELETE TO own.parent DO INSTEAD NOTHING;
ALTER TABLE own.parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON own.parent TO eve, CURRENT_USER USING (true);
CREATE FUNCTION workbench.trap() RETURNS text SECURITY DEFINER LANGUAGE sql AS 'SELECT current_user::text';
CREATE TABLE workbench.mine (n integer);
CREATE TABLE public.mine (n integer);
CREATE TABLE stewarded.squatted (n integer);
CREATE SERVER own_server FOREIGN DATA WRAPPER postgres_fdw;
CREATE USER MAPPING FOR CURRENT_USER SERVER own_server OPTIONS (password 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER own_server;
CREATE FOREIGN TABLE own.far (n integer) SERVER own_server;
CREATE PUBLICATION own_publication FOR TABLE own.parent, workbench.mine;
CREATE EXTENSION hstore SCHEMA own;
SELECT lo_create(4711);
COMMENT ON TABLE own.parent IS 'mine';
COMMENT ON COLUMN own.parent.email IS 'mine';

-- It lets others in.
GRANT USAGE, CREATE ON SCHEMA own TO eve WITH GRANT OPTION;
GRANT USAGE ON SCHEMA own TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA own TO eve WITH GRANT OPTION;
GRANT SELECT ON ALL TABLES IN SCHEMA own TO PUBLIC;
GRANT UPDATE (email), REFERENCES (id) ON own.parent TO eve;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA own TO eve;
GRANT EXECUTE ON FUNCTION own.definer() TO eve;
GRANT EXECUTE ON FUNCTION own.invoker(), own.cmp(own.pair, own.pair), own.total(integer) TO eve;
GRANT EXECUTE ON PROCEDURE own.proc() TO eve;
REVOKE EXECUTE ON FUNCTION own.invoker() FROM PUBLIC;
GRANT USAGE ON TYPE own.mood, own.span, own.pair, own.parent TO eve;
GRANT USAGE ON DOMAIN own.small TO eve;
GRANT USAGE ON FOREIGN SERVER own_server TO eve;
GRANT SELECT, UPDATE ON LARGE OBJECT 4711 TO eve, PUBLIC;
GRANT ALL ON TABLE "own""; DROP ROLE eve; --"."t""; DROP TABLE sales.customer; --", "a
b"."a
b", workbench.mine TO eve, PUBLIC;
GRANT SELECT ("c""; --", "a
b") ON "own""; DROP ROLE eve; --"."t""; DROP TABLE sales.customer; --" TO eve;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, eve;
ALTER DEFAULT PRIVILEGES IN SCHEMA own GRANT EXECUTE ON FUNCTIONS TO eve;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO eve;

-- It hands on what it was given.
GRANT USAGE, CREATE ON SCHEMA stewarded TO eve WITH GRANT OPTION;
GRANT SELECT, UPDATE (note) ON stewarded.ledger TO eve WITH GRANT OPTION;
GRANT SELECT ON stewarded.ledger TO PUBLIC;
GRANT USAGE ON SEQUENCE stewarded.counter TO eve;
GRANT USAGE ON TYPE stewarded.mood TO eve;
GRANT EXECUTE ON FUNCTION stewarded.answer() TO eve;
GRANT USAGE ON FOREIGN SERVER elsewhere TO eve;
GRANT SELECT ON LARGE OBJECT 424242 TO eve;
