//! What is known of a cluster, as plain values.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::error::Failure;
use crate::lease::MarkerReading;

/// What was looked for, or why it could not be seen.
pub(super) type Looked<T> = Result<T, Failure>;

/// What the server says of itself.
pub(super) struct Facts {
    /// The broker's clock.
    pub(super) now: Timestamp,
    pub(super) server: Looked<Server>,
    /// Parameters by name; what the login may not see is missing.
    pub(super) settings: Looked<BTreeMap<String, String>>,
    pub(super) login: Looked<Login>,
    /// The group of brokers, the attic and the group roles, each once.
    pub(super) roles: Looked<Vec<Role>>,
    /// What of each group role makes it more than a lease may give.
    pub(super) reaches: Looked<Vec<(String, Vec<String>)>>,
    pub(super) databases: Looked<Vec<Database>>,
    /// What can be made where, by database.
    pub(super) schemas: Vec<(String, Looked<Vec<Schema>>)>,
    /// Nothing when the login may not see it.
    pub(super) hba: Looked<Option<Vec<HbaLine>>>,
    pub(super) replicas: Looked<Replicas>,
    pub(super) lease_roles: Looked<Vec<LeaseRole>>,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    /// `server_version_num`.
    pub(super) version: u32,
    pub(super) standby: bool,
    /// How far the server's clock certainly is from the broker's.
    pub(super) skew: Skew,
    /// Where the server sees the broker come from; nothing for a socket.
    pub(super) broker_address: Option<String>,
}

/// Two clocks, read in one round trip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skew {
    /// The difference that the round trip cannot explain.
    pub(super) at_least: Duration,
    pub(super) direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ahead,
    Behind,
}

impl Skew {
    /// `server` was read at some time between `before` and `after` on the broker's clock.
    pub(super) fn between(before: Timestamp, server: Timestamp, after: Timestamp) -> Self {
        let length = |from: Timestamp, to: Timestamp| {
            Duration::try_from(to.duration_since(from)).unwrap_or_default()
        };
        if server > after {
            Self { at_least: length(after, server), direction: Direction::Ahead }
        } else {
            Self { at_least: length(server, before), direction: Direction::Behind }
        }
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the catalogue has them")]
pub(super) struct Login {
    pub(super) superuser: bool,
    pub(super) can_create_roles: bool,
    /// -1 for none.
    pub(super) connection_limit: i32,
    pub(super) expires: bool,
    /// Attributes that the broker does not need.
    pub(super) needless: Vec<String>,
    pub(super) may_signal: bool,
    /// Roles of the server that reach its programs or files.
    pub(super) powers: Vec<String>,
    pub(super) reads_hba: bool,
}

#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the catalogue has them")]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) known: bool,
    pub(super) can_login: bool,
    pub(super) attributes: Vec<String>,
    /// Whether the broker has its rights.
    pub(super) inherited: bool,
    /// Whether the broker can become it.
    pub(super) can_be_set: bool,
    /// Whether the broker holds ADMIN on it.
    pub(super) can_be_granted: bool,
    /// What it is a member of.
    pub(super) groups: Vec<String>,
    /// Who is a member of it, beside the broker and lease roles.
    pub(super) members: Vec<String>,
    /// Whether it has any right in a database beside those of everybody, or reaches a role that has.
    pub(super) has_rights: bool,
}

#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the catalogue has them")]
pub(super) struct Database {
    pub(super) name: String,
    /// Whether a profile names it.
    pub(super) wanted: bool,
    pub(super) known: bool,
    pub(super) connectable: bool,
    pub(super) broker_connects: bool,
    pub(super) public_connects: bool,
    pub(super) public_temporary: bool,
    /// Group roles that may not connect to it.
    pub(super) shut_out: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    /// Nothing for the database itself.
    pub(super) name: Option<String>,
    pub(super) public_creates: bool,
    /// Group roles that may make things there.
    pub(super) groups_create: Vec<String>,
    pub(super) attic_creates: bool,
}

/// A line of `pg_hba.conf`.
#[derive(Clone, Debug, Default)]
pub(super) struct HbaLine {
    pub(super) file: Option<String>,
    pub(super) line: i32,
    /// `local`, `host`, `hostssl`, …
    pub(super) kind: String,
    pub(super) databases: Vec<String>,
    pub(super) users: Vec<String>,
    /// Whether more databases or users, or longer names, stand in it than were read.
    pub(super) is_cut: bool,
    pub(super) address: Option<String>,
    pub(super) netmask: Option<String>,
    pub(super) method: String,
    /// Such as `map=staff`.
    pub(super) options: Vec<String>,
    /// Why the server does not understand it.
    pub(super) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replicas {
    pub(super) attached: i64,
    pub(super) synchronous: i64,
    /// Those whose state the login may not see.
    pub(super) hidden: i64,
}

#[derive(Clone, Debug)]
pub(super) struct LeaseRole {
    pub(super) name: String,
    /// Nothing when there is no key to read marks with.
    pub(super) marker: Option<MarkerReading>,
    pub(super) can_login: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_trip_does_not_count_as_a_difference_of_clocks() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
        let skew = |before, server, after| {
            let skew = Skew::between(at(before), at(server), at(after));
            (skew.at_least.as_secs(), skew.direction)
        };
        assert_eq!(skew(100, 104, 110).0, 0);
        assert_eq!(skew(100, 175, 110), (65, Direction::Ahead));
        assert_eq!(skew(100, 40, 110), (60, Direction::Behind));
    }
}
