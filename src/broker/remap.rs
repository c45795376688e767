//! After another map came into force: what it does not allow any more ends at once, and nothing
//! else. Everybody who has a lease or a session is held against it, by what was seen of them last;
//! only who would lose something is looked up before, for their groups may have changed with it.

use std::future::ready;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::recheck::Judged;
use super::standing::Look;
use super::{Broker, LeaseError};
use crate::auth::Identity;
use crate::causes::with_causes;
use crate::names::{Principal, WayName};
use crate::store::StoreError;

/// People of one way in who are held against the map side by side.
const SIDE_BY_SIDE: usize = 4;

/// How soon it is tried again, when it could not be done for everybody.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Whether all that somebody has was held against the map in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Done,
    /// What it turns on is not known now.
    NotYet,
}

impl Held {
    fn of(judged: Judged) -> Self {
        if judged.undecided == 0 { Self::Done } else { Self::NotYet }
    }
}

impl Broker {
    /// Holds the people of the way in `of` against each map that comes into force.
    pub(super) async fn follow_map_for_ever(&self, of: &WayName, stop: CancellationToken) {
        if stop.run_until_cancelled(self.0.time.settled()).await.is_none() {
            return;
        }
        let mut held = 0;
        loop {
            let number = self.0.in_force.number();
            if number != held && self.hold_all(of, &stop).await {
                info!(way = %of, "all that people have was held against the map in force");
                held = number;
            }
            let is_held = held == self.0.in_force.number();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.0.in_force.replaced(of) => {}
                () = sleep(AGAIN_AFTER), if !is_held => {}
            }
        }
    }

    /// Holds everybody of the way in `of` against the map in force. `false` when that is not done.
    async fn hold_all(&self, of: &WayName, stop: &CancellationToken) -> bool {
        let people = match self.people_of(of).await {
            Ok(people) => people,
            Err(failed) => {
                warn!(way = %of, cause = with_causes(&failed), "the store cannot say who is to be held against the map");
                return false;
            }
        };
        let held = stream::iter(people)
            .take_while(|_| ready(!stop.is_cancelled()))
            .map(|principal| async move { self.hold_person(&principal).await })
            .buffer_unordered(SIDE_BY_SIDE);
        // Everybody, also behind somebody for whom it is not done.
        let held: Vec<Held> = held.collect().await;
        !stop.is_cancelled() && held.iter().all(|held| *held == Held::Done)
    }

    async fn people_of(&self, of: &WayName) -> Result<Vec<Principal>, StoreError> {
        let mut people = self.store().people().await?;
        people.retain(|principal| principal.issuer() == of);
        people.sort();
        Ok(people)
    }

    async fn hold_person(&self, principal: &Principal) -> Held {
        self.try_to_hold(principal).await.unwrap_or_else(|failed| {
            warn!(%principal, cause = with_causes(&failed), "not all that the map does not allow any more was told to end; it is tried again");
            Held::NotYet
        })
    }

    async fn try_to_hold(&self, principal: &Principal) -> Result<Held, LeaseError> {
        let known = self.0.looks.last_seen(principal, self.now());
        if let Some(known) = &known {
            let judged = self.would_withdraw(known).await?;
            if judged.refused == 0 {
                return Ok(Held::of(judged));
            }
        }
        // However lately they were seen, their groups may have changed since.
        match self.look(principal, SignedDuration::ZERO).await {
            Look::Good(seen) | Look::OnlyAtLogin(Some(seen)) => self.hold_seen(&seen).await,
            Look::Gone(reason) => {
                self.end_person(principal, &reason).await?;
                Ok(Held::Done)
            }
            // Nobody knows of them what the map could be asked.
            Look::OnlyAtLogin(None) => Ok(Held::Done),
            // By what was seen of them they had it until now, so it is the map that takes it away,
            // and the map waits neither for a directory nor until it is certain who is missing.
            missing_or_away @ (Look::Missing(_) | Look::Away(_)) => match known {
                Some(known) => self.hold_seen(&known).await,
                // Nothing is issued to them, and they are judged with all who are missing.
                None if matches!(missing_or_away, Look::Missing(_)) => Ok(Held::Done),
                None => Ok(Held::NotYet),
            },
        }
    }

    async fn hold_seen(&self, seen: &Identity) -> Result<Held, LeaseError> {
        Ok(Held::of(self.withdraw_beyond(seen).await?))
    }
}
