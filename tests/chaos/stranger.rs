//! Roles that are not ours beside those that are: one whose name begins like a lease's, and one
//! with a lease's mark and nearly its name. Both have a session and a table, and keep all of it.

use tokio_postgres::Client;

use super::holder::{Held, log_in};
use crate::support::TestBed;

const PASSWORD: &str = "what-a-dba-has-chosen";

/// What of a role is compared, as one row of text.
const STANDING: &str = "SELECT r.oid, r.rolname, r.rolcanlogin, r.rolvaliduntil, r.rolconnlimit, \
     shobj_description(r.oid, 'pg_authid'), \
     (SELECT string_agg(m.roleid::regrole::text, ',') FROM pg_auth_members AS m WHERE m.member = r.oid), \
     (SELECT string_agg(c.oid::regclass::text, ',') FROM pg_class AS c WHERE c.relowner = r.oid AND c.relkind = 'r'), \
     (SELECT string_agg(a.pid::text, ',') FROM pg_stat_activity AS a WHERE a.usesysid = r.oid) \
     FROM pg_roles AS r WHERE r.rolname = ";

pub struct Stranger {
    name: String,
    session: Client,
    before: Vec<Vec<String>>,
}

impl Stranger {
    /// A role that a DBA makes, with a session and a table.
    pub async fn start(bed: &TestBed, name: String) -> Self {
        let make = format!(
            "CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' VALID UNTIL 'infinity'; \
             GRANT orders_read TO {name}; \
             CREATE TABLE public.of_{name} (id integer); \
             ALTER TABLE public.of_{name} OWNER TO {name}"
        );
        bed.postgres.sql("orders", &make);
        let session = log_in(bed.postgres.port(), &name, PASSWORD).await;
        let session = session.expect("a stranger gets in");
        let mut stranger = Self { name, session, before: Vec::new() };
        stranger.before = stranger.standing(bed);
        stranger
    }

    /// Gives it the mark of a lease's role, and nearly its name. Does nothing when that role is gone.
    pub fn copy(&mut self, bed: &TestBed, held: &Held) -> bool {
        let comment = format!(
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{}'",
            held.role
        );
        let Some([mark]) = bed.postgres.sql("orders", &comment).first().map(|row| [row[0].clone()])
        else {
            return false;
        };
        let like = format!("x{}", held.role);
        let copy = format!(
            "ALTER ROLE {} RENAME TO {like}; COMMENT ON ROLE {like} IS '{mark}'",
            self.name
        );
        bed.postgres.sql("orders", &copy);
        self.name = like;
        self.before = self.standing(bed);
        true
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn standing(&self, bed: &TestBed) -> Vec<Vec<String>> {
        let standing = bed.postgres.sql("orders", &format!("{STANDING}'{}'", self.name));
        assert_eq!(standing.len(), 1, "{} is gone", self.name);
        standing
    }

    /// It is as it was, and its session can do what it could.
    pub async fn assert_untouched(&self, bed: &TestBed) {
        assert_eq!(self.standing(bed), self.before);
        let read = self.session.query_one("SELECT count(*) FROM sales.customer", &[]).await;
        read.expect("a stranger's session goes on");
    }
}
