-- What the attic role needs in this database to take over what a role owns, as statements.
--   $1  the role's OID   $2  the attic's
WITH owned AS (
    SELECT d.classid, d.objid FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'o'
      AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
), inside (oid) AS (
    SELECT x.pronamespace FROM owned AS o JOIN pg_proc AS x
      ON o.classid = 'pg_proc'::regclass AND x.oid = o.objid
  UNION SELECT x.typnamespace FROM owned AS o JOIN pg_type AS x
      ON o.classid = 'pg_type'::regclass AND x.oid = o.objid
  UNION SELECT x.oprnamespace FROM owned AS o JOIN pg_operator AS x
      ON o.classid = 'pg_operator'::regclass AND x.oid = o.objid
  UNION SELECT x.opcnamespace FROM owned AS o JOIN pg_opclass AS x
      ON o.classid = 'pg_opclass'::regclass AND x.oid = o.objid
  UNION SELECT x.opfnamespace FROM owned AS o JOIN pg_opfamily AS x
      ON o.classid = 'pg_opfamily'::regclass AND x.oid = o.objid
  UNION SELECT x.collnamespace FROM owned AS o JOIN pg_collation AS x
      ON o.classid = 'pg_collation'::regclass AND x.oid = o.objid
  UNION SELECT x.connamespace FROM owned AS o JOIN pg_conversion AS x
      ON o.classid = 'pg_conversion'::regclass AND x.oid = o.objid
  UNION SELECT x.dictnamespace FROM owned AS o JOIN pg_ts_dict AS x
      ON o.classid = 'pg_ts_dict'::regclass AND x.oid = o.objid
  UNION SELECT x.cfgnamespace FROM owned AS o JOIN pg_ts_config AS x
      ON o.classid = 'pg_ts_config'::regclass AND x.oid = o.objid
  UNION SELECT x.stxnamespace FROM owned AS o JOIN pg_statistic_ext AS x
      ON o.classid = 'pg_statistic_ext'::regclass AND x.oid = o.objid
  UNION SELECT x.relnamespace FROM owned AS o JOIN pg_class AS x
      ON o.classid = 'pg_class'::regclass AND x.oid = o.objid
), attic (oid, name) AS (
    SELECT r.oid, quote_ident(r.rolname) FROM pg_roles AS r WHERE r.oid = $2
)
SELECT 'GRANT CREATE ON SCHEMA ' || quote_ident(n.nspname) || ' TO ' || attic.name AS statement
FROM attic CROSS JOIN inside JOIN pg_namespace AS n ON n.oid = inside.oid
WHERE n.nspowner <> $1 AND NOT has_schema_privilege(attic.oid, n.oid, 'CREATE')
  AND n.oid <> pg_my_temp_schema()
UNION ALL
SELECT 'GRANT CREATE ON DATABASE ' || quote_ident(current_database()) || ' TO ' || attic.name
FROM attic
WHERE NOT has_database_privilege(attic.oid, current_database(), 'CREATE') AND EXISTS (
    SELECT FROM owned
    WHERE owned.classid IN ('pg_namespace'::regclass, 'pg_publication'::regclass))
UNION ALL
SELECT 'GRANT USAGE ON FOREIGN DATA WRAPPER ' || quote_ident(f.fdwname) || ' TO ' || attic.name
FROM attic CROSS JOIN owned
JOIN pg_foreign_server AS s ON owned.classid = 'pg_foreign_server'::regclass AND s.oid = owned.objid
JOIN pg_foreign_data_wrapper AS f ON f.oid = s.srvfdw
WHERE NOT has_foreign_data_wrapper_privilege(attic.oid, f.oid, 'USAGE')
LIMIT 25
