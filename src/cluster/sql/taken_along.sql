-- What of others' would be dropped with what a role owns in this database, without a word: their
-- partitions of its tables, and, before 15, their columns that its routines generate.
--   $1  its OID   $2  how many at most
--
-- The columns are those of dependants.sql. `remedy` keeps what is stored in them.
SELECT 'table ' || c.name AS dependant, 'table ' || p.name AS object,
       'ALTER TABLE ' || p.name || ' DETACH PARTITION ' || c.name AS remedy, NULL AS loses
FROM (SELECT i.inhparent, i.inhrelid, p.oid, format('%I.%I', n.nspname, p.relname) AS name
      FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent
      JOIN pg_namespace AS n ON n.oid = p.relnamespace
      WHERE p.relowner = $1) AS p
JOIN (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND c.relowner <> $1) AS c
  ON c.oid = p.inhrelid
UNION ALL
SELECT pg_describe_object(g.classid, g.objid, g.objsubid),
       pg_describe_object(g.refclassid, g.refobjid, 0),
       format('ALTER TABLE %I.%I ALTER COLUMN %I DROP EXPRESSION', n.nspname, c.relname, a.attname),
       NULL
FROM pg_shdepend AS d
JOIN pg_depend AS g ON g.refclassid = d.classid AND g.refobjid = d.objid AND g.deptype = 'a'
 AND g.classid = 'pg_class'::regclass AND g.objsubid > 0
JOIN pg_class AS c ON c.oid = g.objid AND c.relowner <> $1
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = g.objid AND a.attnum = g.objsubid AND a.attgenerated = 's'
WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'o'
  AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
ORDER BY dependant, object
LIMIT $2
