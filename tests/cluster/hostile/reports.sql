-- A little more of the same in another database.
CREATE SCHEMA "re""ports";
CREATE TABLE "re""ports".notes (id serial PRIMARY KEY, note text);
CREATE FUNCTION "re""ports".trap() RETURNS text SECURITY DEFINER LANGUAGE sql AS 'SELECT current_user::text';
GRANT USAGE ON SCHEMA "re""ports" TO PUBLIC;
GRANT ALL ON "re""ports".notes TO PUBLIC, eve;
SELECT lo_create(0) > 0;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO eve;
