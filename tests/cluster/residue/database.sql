-- Everything in one database that a lease could leave behind: what, whose, which, and who may.
WITH o (classid, objid, owner, acl) AS (
    SELECT c.tableoid, c.oid, c.relowner, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_(toast|temp|toast_temp)'
  UNION ALL SELECT n.tableoid, n.oid, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace n WHERE nspname !~ '^pg_(temp|toast_temp)'
  UNION ALL SELECT tableoid, oid, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
  UNION ALL SELECT t.tableoid, t.oid, typowner, coalesce(typacl, acldefault('T', typowner)) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE n.nspname !~ '^pg_(toast|temp|toast_temp)'
  UNION ALL SELECT tableoid, oid, lanowner, coalesce(lanacl, acldefault('l', lanowner)) FROM pg_language
  UNION ALL SELECT tableoid, oid, fdwowner, coalesce(fdwacl, acldefault('F', fdwowner)) FROM pg_foreign_data_wrapper
  UNION ALL SELECT tableoid, oid, srvowner, coalesce(srvacl, acldefault('S', srvowner)) FROM pg_foreign_server
  UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner, coalesce(lomacl, acldefault('L', lomowner)) FROM pg_largeobject_metadata
  UNION ALL SELECT tableoid, oid, defaclrole, defaclacl FROM pg_default_acl
  UNION ALL SELECT tableoid, oid, pubowner, NULL FROM pg_publication
  UNION ALL SELECT tableoid, oid, evtowner, NULL FROM pg_event_trigger
  UNION ALL SELECT tableoid, oid, extowner, NULL FROM pg_extension
  UNION ALL SELECT tableoid, oid, oprowner, NULL FROM pg_operator
  UNION ALL SELECT tableoid, oid, opcowner, NULL FROM pg_opclass
  UNION ALL SELECT tableoid, oid, opfowner, NULL FROM pg_opfamily
  UNION ALL SELECT tableoid, oid, collowner, NULL FROM pg_collation
  UNION ALL SELECT tableoid, oid, conowner, NULL FROM pg_conversion
  UNION ALL SELECT tableoid, oid, cfgowner, NULL FROM pg_ts_config
  UNION ALL SELECT tableoid, oid, dictowner, NULL FROM pg_ts_dict
  UNION ALL SELECT tableoid, oid, stxowner, NULL FROM pg_statistic_ext
  UNION ALL SELECT p.tableoid, p.oid, c.relowner, NULL FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
  UNION ALL SELECT t.tableoid, t.oid, c.relowner, NULL FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL SELECT w.tableoid, w.oid, c.relowner, NULL FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
  UNION ALL SELECT k.tableoid, k.oid, coalesce(c.relowner, t.typowner), NULL FROM pg_constraint k
        LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
  UNION ALL SELECT a.tableoid, a.oid, c.relowner, NULL FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid
  UNION ALL SELECT c.tableoid, c.oid, (SELECT typowner FROM pg_type
        WHERE pg_type.oid IN (c.castsource, c.casttarget) ORDER BY typowner DESC LIMIT 1), NULL FROM pg_cast c
  UNION ALL SELECT 'pg_user_mapping'::regclass, u.umid, s.srvowner, NULL FROM pg_user_mappings u
        JOIN pg_foreign_server s ON s.oid = u.srvid
)
SELECT concat_ws('|', 'object', owner::regrole, i.type, i.identity, o.acl::text) AS line
FROM o CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) AS i
WHERE (o.objid >= 16384 OR o.acl IS NOT NULL)
  -- What an object brings along by itself, such as the members of an extension.
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype IN ('e', 'i'))
UNION ALL
SELECT concat_ws('|', 'column', c.relowner::regrole, c.oid::regclass, a.attname, a.attacl::text)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL
UNION ALL
SELECT concat_ws('|', 'policy', c.relowner::regrole, c.oid::regclass, p.polname, p.polroles::regrole[]::text)
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
UNION ALL
SELECT concat_ws('|', 'initial', 'of the server', classoid::regclass, pg_describe_object(classoid, objoid, objsubid), initprivs::text)
FROM pg_init_privs WHERE objoid >= 16384
UNION ALL
SELECT concat_ws('|', 'comment', coalesce((SELECT c.relowner::regrole::text FROM pg_class c WHERE d.classoid = 'pg_class'::regclass AND c.oid = d.objoid),
        (SELECT e.extowner::regrole::text FROM pg_extension e WHERE d.classoid = 'pg_extension'::regclass AND e.oid = d.objoid), '-'),
    pg_describe_object(d.classoid, d.objoid, d.objsubid), description)
FROM pg_description d WHERE objoid >= 16384
UNION ALL
SELECT concat_ws('|', 'label', '-', pg_describe_object(classoid, objoid, objsubid), label) FROM pg_seclabel
ORDER BY 1
