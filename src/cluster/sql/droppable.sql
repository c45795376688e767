-- Objects of a role in this database that can be dropped one after the other, in this order.
--   $1  its OID   $2  how many at most
--
-- It begins with objects on which nothing rests but their own parts, and goes down to what those
-- rest on. What still has something resting on it when its turn comes is refused, and found again.
WITH RECURSIVE leaf (classid, objid) AS (
    SELECT d.classid, d.objid FROM (
        SELECT x.classid, x.objid FROM pg_shdepend AS x
        WHERE x.refclassid = 'pg_authid'::regclass AND x.refobjid = $1 AND x.deptype = 'o'
          AND x.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
          AND x.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
        OFFSET 0
    ) AS d
    WHERE NOT EXISTS (
        WITH RECURSIVE part (classid, objid) AS (
            SELECT d.classid, d.objid
          UNION
            SELECT p.classid, p.objid FROM part JOIN pg_depend AS p
              ON p.refclassid = part.classid AND p.refobjid = part.objid
            WHERE p.deptype IN ('a', 'i', 'P', 'S')
        )
        SELECT FROM part JOIN pg_depend AS p
          ON p.refclassid = part.classid AND p.refobjid = part.objid
        WHERE (p.deptype = 'n' AND NOT EXISTS (
                  SELECT FROM part AS q WHERE q.classid = p.classid AND q.objid = p.objid))
           -- A part that can be dropped by itself, such as a partition, goes first.
           OR (p.deptype = 'a' AND EXISTS (
                  SELECT FROM pg_shdepend AS x
                  WHERE x.dbid = (SELECT b.oid FROM pg_database AS b
                                  WHERE b.datname = current_database())
                    AND x.classid = p.classid AND x.objid = p.objid AND x.objsubid = 0
                    AND x.deptype = 'o' AND x.refobjid = $1
                    AND x.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass))
               AND NOT EXISTS (
                  SELECT FROM pg_depend AS r
                  WHERE r.refclassid = p.classid AND r.refobjid = p.objid AND r.deptype = 'n')))
    LIMIT $2
), found (classid, objid) AS (
    SELECT classid, objid FROM leaf
  UNION
    SELECT n.classid, n.objid FROM found CROSS JOIN LATERAL (
        SELECT p.classid, p.objid FROM pg_depend AS p
        WHERE p.refclassid = found.classid AND p.refobjid = found.objid
          AND p.deptype IN ('a', 'i', 'P', 'S')
      UNION ALL
        SELECT p.refclassid, p.refobjid FROM pg_depend AS p
        WHERE p.classid = found.classid AND p.objid = found.objid
    ) AS n
    WHERE n.objid >= 16384
)
SELECT i.type,
       -- SQL_ASCII keeps bytes that are no text: such a name is of no use in a statement.
       CASE WHEN getdatabaseencoding() <> 'SQL_ASCII' OR octet_length(i.identity)
                = octet_length(encode(convert_to(i.identity, 'SQL_ASCII'), 'escape'))
            THEN i.identity END AS identity
FROM (SELECT row_number() OVER () AS at, f.classid, f.objid
      FROM (SELECT classid, objid FROM found LIMIT 5 * $2) AS f) AS f
CROSS JOIN LATERAL pg_identify_object(f.classid, f.objid, 0) AS i
WHERE EXISTS (
    SELECT FROM pg_shdepend AS x
    WHERE x.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
      AND x.classid = f.classid AND x.objid = f.objid AND x.objsubid = 0
      AND x.deptype = 'o' AND x.refclassid = 'pg_authid'::regclass AND x.refobjid = $1
      AND x.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass))
ORDER BY f.at
LIMIT $2
