-- Everything in the shared tables that a lease could leave behind, one line for each.
SELECT line FROM (
    SELECT concat_ws('|', 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
        rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil, rolpassword IS NULL) AS line FROM pg_authid
  UNION ALL
    SELECT concat_ws('|', 'membership', coalesce(g.rolname, m.roleid::text), coalesce(r.rolname, m.member::text),
        coalesce(b.rolname, m.grantor::text), (to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor')::text)
    FROM pg_auth_members m LEFT JOIN pg_roles g ON g.oid = m.roleid LEFT JOIN pg_roles r ON r.oid = m.member
    LEFT JOIN pg_roles b ON b.oid = m.grantor
  UNION ALL
    SELECT concat_ws('|', 'setting', coalesce(d.datname, s.setdatabase::text), coalesce(r.rolname, s.setrole::text), s.setconfig::text)
    FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
  UNION ALL
    SELECT concat_ws('|', 'comment', classoid::regclass, pg_describe_object(classoid, objoid, 0), description) FROM pg_shdescription
  UNION ALL
    SELECT concat_ws('|', 'label', classoid::regclass, pg_describe_object(classoid, objoid, 0), label) FROM pg_shseclabel
  UNION ALL
    SELECT concat_ws('|', 'database', datname, datdba::regrole, coalesce(datacl, acldefault('d', datdba))::text, datallowconn, datconnlimit) FROM pg_database
  UNION ALL
    SELECT concat_ws('|', 'tablespace', spcname, spcowner::regrole, coalesce(spcacl, acldefault('t', spcowner))::text) FROM pg_tablespace
  UNION ALL
    SELECT concat_ws('|', 'slot', slot_name, slot_type) FROM pg_replication_slots
  UNION ALL
    SELECT concat_ws('|', 'prepared', gid, ownerid) FROM pg_prepared_xact()
  UNION ALL
    SELECT concat_ws('|', 'subscription', subname, subowner::regrole) FROM pg_subscription
  UNION ALL
    SELECT concat_ws('|', 'depends', coalesce(d.datname, s.dbid::text), s.classid::regclass,
        coalesce(r.rolname, s.refobjid::text), s.deptype, count(*))
    FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid LEFT JOIN pg_roles r ON r.oid = s.refobjid
    -- Policies are told with their tables.
    WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype <> 'r'
    GROUP BY d.datname, s.dbid, s.classid, r.rolname, s.refobjid, s.deptype
) AS all_lines ORDER BY line COLLATE "C"
