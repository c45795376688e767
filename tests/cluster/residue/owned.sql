-- What the role {role} owns in one database, but for what goes with its sessions.
SELECT concat_ws(' ', i.type, i.identity) AS object
FROM pg_shdepend AS d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS i
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o'
  AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = {role})
  AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND d.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
  AND i.identity !~ '^pg_temp'
  AND NOT EXISTS (
      SELECT FROM pg_depend AS p JOIN pg_class AS c ON c.oid = p.objid AND c.relkind = 'S'
      WHERE d.classid = 'pg_class'::regclass AND p.classid = d.classid AND p.objid = d.objid
        AND p.refclassid = 'pg_class'::regclass AND p.deptype IN ('a', 'i'))
