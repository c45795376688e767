-- Seeds one PostgreSQL cluster (13 to 18) for the demo, the tests and compose.
--
--   psql -X -U postgres -d postgres -v broker_password_file=FILE -f seed.sql
--
-- Run as a superuser; running it twice is harmless. FILE holds the password of the broker's login,
-- on one line: so no password stands in a file of this repository, nor on a command line.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

\ir groups.sql
\ir broker.sql
\ir orders.sql
\ir reports.sql
