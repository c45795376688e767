-- Things of the steward's, in whose name the broker may act.
CREATE SCHEMA stewarded AUTHORIZATION steward;
GRANT CREATE ON SCHEMA public TO hostile, pgbridge_attic;
CREATE EXTENSION postgres_fdw;
ALTER FOREIGN DATA WRAPPER postgres_fdw OWNER TO postgres;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO steward, hostile, pgbridge_attic;
SET ROLE steward;
CREATE TABLE stewarded.ledger (n integer PRIMARY KEY, note text, sum integer);
ALTER TABLE stewarded.ledger ENABLE ROW LEVEL SECURITY;
CREATE SEQUENCE stewarded.counter;
CREATE TYPE stewarded.mood AS ENUM ('calm');
CREATE DOMAIN stewarded.positive AS integer CHECK (VALUE > 0);
CREATE FUNCTION stewarded.answer() RETURNS integer LANGUAGE sql AS 'SELECT 42';
CREATE PROCEDURE stewarded.act() LANGUAGE sql AS 'SELECT 1';
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
SELECT lo_create(424242);
CREATE POLICY for_tom ON stewarded.ledger TO tom USING (true);
RESET ROLE;
