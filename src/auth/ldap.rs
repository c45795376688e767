//! LDAP directories: simple bind and search+bind, as PostgreSQL's `ldap` method.
