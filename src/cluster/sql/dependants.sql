-- What others have built in this database on what a role owns.  $1  the role's OID   $2  how many
--
-- What hangs on an object by itself (its row type, its indexes, a view's rule) goes with it.
-- `remedy` is a statement after which others have lost nothing that they stored; where there is
-- none, `loses` says what dropping the dependant would lose: a 'column', 'data', or nothing.
WITH RECURSIVE doomed (classid, objid, objsubid) AS (
    SELECT d.classid, d.objid, 0 FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'o'
      AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
  UNION
    -- A column alone takes along only what is about it.
    SELECT p.classid, p.objid, p.objsubid FROM doomed JOIN pg_depend AS p
      ON p.refclassid = doomed.classid AND p.refobjid = doomed.objid
     AND (doomed.objsubid = 0 OR p.refobjsubid = doomed.objsubid)
    WHERE p.deptype IN ('a', 'i', 'P', 'S')
), built AS (
    SELECT DISTINCT p.classid, p.objid, p.objsubid, p.refclassid, p.refobjid
    FROM doomed JOIN pg_depend AS p ON p.refclassid = doomed.classid AND p.refobjid = doomed.objid
     AND (doomed.objsubid = 0 OR p.refobjsubid = doomed.objsubid)
    WHERE p.deptype = 'n' AND NOT EXISTS (
        SELECT FROM doomed AS d WHERE d.classid = p.classid AND d.objid = p.objid
          AND d.objsubid IN (0, p.objsubid))
)
SELECT coalesce(
           (SELECT pg_describe_object('pg_class'::regclass, w.ev_class, 0) FROM pg_rewrite AS w
            WHERE built.classid = 'pg_rewrite'::regclass AND w.oid = built.objid
              AND w.rulename = '_RETURN'),
           pg_describe_object(built.classid, built.objid, built.objsubid)) AS dependant,
       pg_describe_object(built.refclassid, built.refobjid, 0) AS object,
       coalesce(
           (SELECT 'DROP VIEW ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
            FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid = w.ev_class
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_rewrite'::regclass AND w.oid = built.objid
              AND c.relkind = 'v'),
           (SELECT format('DROP RULE %I ON %I.%I', w.rulename, n.nspname, c.relname)
            FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid = w.ev_class
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_rewrite'::regclass AND w.oid = built.objid
              AND c.relkind NOT IN ('v', 'm')),
           (SELECT 'ALTER TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
                   || ' DROP CONSTRAINT ' || quote_ident(k.conname)
            FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_constraint'::regclass AND k.oid = built.objid),
           (SELECT format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
            FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_trigger'::regclass AND t.oid = built.objid),
           -- What a generated column has stored stays.
           (SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I DROP %s', n.nspname, c.relname, a.attname,
                          CASE a.attgenerated WHEN 's' THEN 'EXPRESSION' ELSE 'DEFAULT' END)
            FROM pg_attrdef AS f JOIN pg_class AS c ON c.oid = f.adrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
            WHERE built.classid = 'pg_attrdef'::regclass AND f.oid = built.objid
              AND a.attgenerated IN ('', 's') AND c.relkind IN ('r', 'p', 'f')),
           -- Its rows and columns stay, on their own.
           (SELECT format('ALTER TABLE %I.%I NO INHERIT %I.%I', n.nspname, c.relname, m.nspname, o.relname)
            FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_class AS o ON o.oid = h.inhparent
            JOIN pg_namespace AS m ON m.oid = o.relnamespace
            WHERE built.classid = 'pg_class'::regclass AND built.refclassid = 'pg_class'::regclass
              AND built.objsubid = 0 AND h.inhrelid = built.objid AND h.inhparent = built.refobjid
              AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition),
           (SELECT format('ALTER TABLE %I.%I NOT OF', n.nspname, c.relname)
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE built.classid = 'pg_class'::regclass AND built.refclassid = 'pg_type'::regclass
              AND built.objsubid = 0 AND c.oid = built.objid AND c.reloftype = built.refobjid),
           (SELECT 'DROP ' || upper(i.type) || ' ' || i.identity
            FROM pg_identify_object(built.classid, built.objid, 0) AS i
            WHERE built.objsubid = 0 AND (
                built.classid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass,
                    'pg_cast'::regclass, 'pg_collation'::regclass, 'pg_ts_config'::regclass,
                    'pg_ts_dict'::regclass, 'pg_foreign_server'::regclass)
                OR built.classid = 'pg_class'::regclass AND i.type = 'index'))
       ) AS remedy,
       CASE WHEN built.classid = 'pg_class'::regclass AND built.objsubid <> 0 THEN 'column'
            WHEN built.classid = 'pg_class'::regclass THEN 'data'
            WHEN built.classid = 'pg_rewrite'::regclass THEN 'data'
            WHEN built.classid = 'pg_attrdef'::regclass THEN 'column'
       END AS loses
FROM built
ORDER BY dependant, object
LIMIT $2
