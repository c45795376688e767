-- Privileges on parameters, since 15.
SELECT concat_ws('|', 'parameter', parname, paracl::text) FROM pg_parameter_acl ORDER BY 1
