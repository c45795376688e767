-- What others have built in this database on what a role owns.  $1  the role's OID   $2  how many
--
-- What hangs on an object by itself (its row type, its indexes, a view's rule) goes with it.
WITH RECURSIVE doomed (classid, objid) AS (
    SELECT d.classid, d.objid FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'o'
      AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
  UNION
    SELECT p.classid, p.objid FROM doomed JOIN pg_depend AS p
      ON p.refclassid = doomed.classid AND p.refobjid = doomed.objid
    WHERE p.deptype IN ('a', 'i', 'P', 'S')
), built AS (
    SELECT DISTINCT p.classid, p.objid, p.refclassid, p.refobjid
    FROM doomed JOIN pg_depend AS p ON p.refclassid = doomed.classid AND p.refobjid = doomed.objid
    WHERE p.deptype = 'n' AND NOT EXISTS (
        SELECT FROM doomed AS d WHERE d.classid = p.classid AND d.objid = p.objid)
)
SELECT coalesce(
           (SELECT pg_describe_object('pg_class'::regclass, w.ev_class, 0) FROM pg_rewrite AS w
            WHERE built.classid = 'pg_rewrite'::regclass AND w.oid = built.objid
              AND w.rulename = '_RETURN'),
           pg_describe_object(built.classid, built.objid, 0)) AS dependant,
       pg_describe_object(built.refclassid, built.refobjid, 0) AS object,
       coalesce(
           (SELECT 'DROP ' || CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW ' ELSE 'VIEW ' END
                   || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
            FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid = w.ev_class
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_rewrite'::regclass AND w.oid = built.objid
              AND c.relkind IN ('v', 'm')),
           (SELECT 'ALTER TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
                   || ' DROP CONSTRAINT ' || quote_ident(k.conname)
            FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_constraint'::regclass AND k.oid = built.objid),
           (SELECT format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
            FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_trigger'::regclass AND t.oid = built.objid),
           (SELECT 'DROP ' || upper(i.type) || ' ' || i.identity
            FROM pg_identify_object(built.classid, built.objid, 0) AS i
            WHERE built.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass,
                'pg_operator'::regclass, 'pg_cast'::regclass, 'pg_collation'::regclass,
                'pg_ts_config'::regclass, 'pg_ts_dict'::regclass, 'pg_foreign_server'::regclass))
       ) AS remedy
FROM built
ORDER BY dependant, object
LIMIT $2
