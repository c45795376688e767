//! One PostgreSQL server where lease roles live.
