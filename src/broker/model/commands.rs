//! What happens in a world, drawn by chance.

use std::time::Duration;

use jiff::SignedDuration;

use super::chance::Chance;
use super::directory::Account;
use super::server::Presence;
use super::stand::{GROUPS, PEOPLE, ROLES, TTLS};
use super::world::World;

#[derive(Clone, Debug)]
pub(super) enum Command {
    Login { at: usize, person: &'static str, is_wrong: bool },
    Issue(Asked),
    Renew { at: usize, lease: u32, ttl: &'static str },
    LoseGroupAndRenew { at: usize, lease: u32 },
    Revoke { at: usize, lease: u32 },
    RevokePerson { at: usize, by: &'static str, person: &'static str },
    RevokeOfOthers { at: usize, by: &'static str, lease: u32 },
    Logout { at: usize, person: &'static str },
    Use { lease: u32, presence: Presence },
    BecomeGroup(u32),
    Own(u32),
    Prepare(u32),
    Reveal,
    Deliver,
    Pass(Duration),
    Kill(usize),
    AllDie,
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    Faults(Option<u32>),
    ServerUp(bool),
    StoreUp(bool),
    MoveServerClock(SignedDuration),
    MoveWall(usize, SignedDuration),
    Hold { lease: u32, is_in_use: bool },
    DropRole(u32),
    RenameRole(u32),
    TakeName(u32),
    CopyMark(u32),
    DropForeign,
    BackUp,
    Restore,
    DirectoryUp(bool),
    Account { person: &'static str, account: Account },
    ShowOnly(Option<&'static str>),
    ShowAll,
    RevokeMissing { at: usize, by: &'static str },
    Member { person: &'static str, group: &'static str, is_member: bool },
}

/// A lease that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: usize,
    pub(super) person: &'static str,
    /// The only one on offer, if none is named.
    pub(super) role: Option<&'static str>,
    pub(super) ttl: &'static str,
    pub(super) key: Option<&'static str>,
}

impl Command {
    pub(super) fn random(chance: &Chance, brokers: usize) -> Self {
        let at = chance.below(u32::try_from(brokers).unwrap()) as usize;
        match chance.below(125) {
            0..40 => Self::of_people(chance, at),
            40..64 => Self::of_holders(chance),
            64..84 => {
                let seconds = chance
                    .pick(&[1, 1, 1, 1, 2, 2, 5, 5, 10, 10, 30, 30, 60, 60, 600, 3600])
                    .unwrap();
                Self::Pass(Duration::from_secs(seconds))
            }
            84..108 => Self::of_faults(chance, at),
            108..117 => Self::of_dba(chance),
            _ => Self::of_directory(chance, at),
        }
    }

    fn of_people(chance: &Chance, at: usize) -> Self {
        let (lease, person) = (chance.below(1000), chance.pick(&PEOPLE).unwrap());
        let ttl = chance.pick(&TTLS).unwrap();
        match chance.below(46) {
            0..10 => Self::Login { at, person, is_wrong: chance.once_in(6) },
            10..30 => {
                let (role, ..) = chance.pick(&ROLES).unwrap();
                let role = Some(role).filter(|_| !chance.once_in(10));
                let key = chance.pick(&[None, None, Some("k1"), Some("k2")]).unwrap();
                Self::Issue(Asked { at, person, role, ttl, key })
            }
            30..37 => Self::Renew { at, lease, ttl },
            37 => Self::LoseGroupAndRenew { at, lease },
            38..43 => Self::Revoke { at, lease },
            43 => {
                let by = chance.pick(&["carol", "carol", "bob"]).unwrap();
                Self::RevokePerson { at, by, person }
            }
            44 => Self::RevokeOfOthers { at, by: person, lease },
            _ => Self::Logout { at, person },
        }
    }

    fn of_holders(chance: &Chance) -> Self {
        let lease = chance.below(1000);
        match chance.below(15) {
            0..6 => {
                let presence = if chance.once_in(3) { Presence::Hidden } else { Presence::Open };
                Self::Use { lease, presence }
            }
            6..8 => Self::BecomeGroup(lease),
            8..11 => Self::Own(lease),
            11 => Self::Prepare(lease),
            12 => Self::Deliver,
            _ => Self::Reveal,
        }
    }

    fn of_faults(chance: &Chance, at: usize) -> Self {
        match chance.below(60) {
            0..2 => Self::Kill(at),
            2 => Self::AllDie,
            3..21 => Self::Start(at),
            21 => Self::Freeze(at),
            22..30 => Self::Thaw(at),
            30..36 => Self::Faults(None),
            36..39 => Self::Faults(chance.pick(&[50, 20, 5])),
            39 => Self::ServerUp(false),
            40..48 => Self::ServerUp(true),
            48 => Self::StoreUp(false),
            49..57 => Self::StoreUp(true),
            57 => {
                // Never as far as a wall is moved, or a reading of before would agree with it.
                let hours = chance.pick(&[0, 0, 0, 1, -1, 24 * 3000]).unwrap();
                Self::MoveServerClock(SignedDuration::from_hours(hours))
            }
            58 => {
                let hours = chance.pick(&[0, 0, 0, 2, -2, 24 * 3650]).unwrap();
                Self::MoveWall(at, SignedDuration::from_hours(hours))
            }
            _ => Self::Deliver,
        }
    }

    fn of_dba(chance: &Chance) -> Self {
        let lease = chance.below(1000);
        match chance.below(18) {
            0..5 => Self::Hold { lease, is_in_use: chance.once_in(2) },
            5..7 => Self::DropRole(lease),
            7 => Self::RenameRole(lease),
            8..10 => Self::TakeName(lease),
            10..12 => Self::CopyMark(lease),
            12..14 => Self::DropForeign,
            14..16 => Self::BackUp,
            16 => Self::Restore,
            _ => Self::Reveal,
        }
    }

    fn of_directory(chance: &Chance, at: usize) -> Self {
        use Account::{Hidden, Locked, Open};
        let person = chance.pick(&PEOPLE).unwrap();
        match chance.below(10) {
            0..2 => Self::DirectoryUp(!chance.once_in(8)),
            2..4 => {
                let account = chance.pick(&[Open, Open, Open, Open, Locked, Hidden]).unwrap();
                Self::Account { person, account }
            }
            4 => chance.pick(&[Self::ShowOnly(None), Self::ShowOnly(Some(person))]).unwrap(),
            5..7 => Self::ShowAll,
            7 => Self::RevokeMissing { at, by: chance.pick(&["carol", "carol", "bob"]).unwrap() },
            _ => {
                let group = chance.pick(&GROUPS).unwrap();
                Self::Member { person, group, is_member: !chance.once_in(7) }
            }
        }
    }
}

impl World {
    pub(super) fn execute(&mut self, command: &Command) {
        match *command {
            Command::Login { at, person, is_wrong } => self.log_in(at, person, is_wrong),
            Command::Issue(asked) => self.issue(asked),
            Command::Renew { at, lease, ttl } => self.renew(at, lease, ttl),
            Command::LoseGroupAndRenew { at, lease } => self.lose_group_and_renew(at, lease),
            Command::Revoke { at, lease } => self.revoke(at, lease),
            Command::RevokePerson { at, by, person } => self.revoke_person(at, by, person),
            Command::RevokeOfOthers { at, by, lease } => self.revoke_of_others(at, by, lease),
            Command::Logout { at, person } => self.log_out(at, person),
            Command::Use { lease, presence } => self.use_lease(lease, presence),
            Command::BecomeGroup(lease) => self.become_group(lease),
            Command::Own(lease) => self.own_something(lease),
            Command::Prepare(lease) => self.prepare(lease),
            Command::Reveal => self.server.reveal(),
            Command::Deliver => self.server.deliver(),
            Command::Pass(time) => self.advance(time),
            Command::Kill(at) => self.brokers[at].running = None,
            Command::AllDie => self.let_all_die(),
            Command::Start(at) => self.start(at),
            Command::Freeze(at) => self.brokers[at].is_frozen = true,
            Command::Thaw(at) => self.thaw(at),
            Command::Faults(faults) => self.chance.set_faults(faults),
            Command::ServerUp(is_up) => self.set_server_up(is_up),
            Command::StoreUp(is_up) => self.store.set_up(is_up),
            Command::MoveServerClock(ahead) => self.move_server_clock(ahead),
            Command::MoveWall(at, ahead) => self.move_wall(at, ahead),
            Command::Hold { lease, is_in_use } => self.hold(lease, is_in_use),
            Command::DropRole(lease) => self.drop_role(lease),
            Command::RenameRole(lease) => self.rename_role(lease),
            Command::TakeName(lease) => self.take_name(lease),
            Command::CopyMark(lease) => self.copy_mark(lease),
            Command::DropForeign => self.drop_foreign(),
            Command::BackUp => self.back_up(),
            Command::Restore => self.restore(),
            Command::DirectoryUp(is_up) => self.directory.set_up(is_up),
            Command::Account { person, account } => self.directory.set_account(person, account),
            Command::ShowOnly(person) => self.directory.show_only(person),
            Command::ShowAll => self.directory.show_all(),
            Command::RevokeMissing { at, by } => self.revoke_missing(at, by),
            Command::Member { person, group, is_member } => {
                self.directory.set_member(person, group, is_member);
            }
        }
    }
}
