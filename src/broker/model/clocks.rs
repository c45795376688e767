//! The clocks of the model: each broker's process with its own, and what moves them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::world::{Running, World};
use crate::clock::Clock;

/// A broker's process.
pub(super) struct Process {
    pub(super) clock: Clock,
    /// How far its machine's clock is ahead of the true time.
    pub(super) wall_ahead: SignedDuration,
    pub(super) running: Option<Running>,
    /// Stopped by SIGSTOP: time passes, and nothing is done.
    pub(super) is_frozen: bool,
    missed: Duration,
}

impl Process {
    pub(super) fn new(start: Timestamp) -> Self {
        Self {
            clock: Clock::manual(start),
            wall_ahead: SignedDuration::ZERO,
            running: None,
            is_frozen: false,
            missed: Duration::ZERO,
        }
    }

    pub(super) fn started(&mut self, clock: Clock, running: Running) {
        (self.clock, self.running) = (clock, Some(running));
        (self.is_frozen, self.missed) = (false, Duration::ZERO);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        if self.is_frozen {
            self.missed += by;
        } else if let Some(running) = &self.running {
            running.runtime.block_on(tokio::time::advance(by));
        }
    }

    fn thaw(&mut self) {
        self.is_frozen = false;
        let missed = std::mem::take(&mut self.missed);
        if let Some(running) = &self.running {
            running.runtime.block_on(tokio::time::advance(missed));
        }
    }

    fn move_wall(&mut self, ahead: SignedDuration) {
        self.clock.move_wall(ahead - self.wall_ahead);
        self.wall_ahead = ahead;
    }
}

impl World {
    pub(super) fn thaw(&mut self, at: usize) {
        self.brokers[at].thaw();
    }

    /// Only one clock is wrong at a time: with two that agree nobody could tell.
    pub(super) fn move_wall(&mut self, at: usize, ahead: SignedDuration) {
        self.server.set_clock_ahead(SignedDuration::ZERO);
        self.brokers[at].move_wall(ahead);
    }

    pub(super) fn move_server_clock(&mut self, ahead: SignedDuration) {
        self.set_walls_right();
        self.server.set_clock_ahead(ahead);
    }

    pub(super) fn set_walls_right(&mut self) {
        for process in &mut self.brokers {
            process.move_wall(SignedDuration::ZERO);
        }
        self.server.set_clock_ahead(SignedDuration::ZERO);
    }

    /// How far the brokers' time is behind the true one, of that which is farthest: where a broker
    /// starts while its machine's clock and the server's do not agree, it goes by the earlier.
    pub(super) fn behind(&self) -> SignedDuration {
        let now = self.time.now();
        let behind = self.brokers.iter().map(|process| now.duration_since(process.clock.now()));
        behind.max().unwrap_or_default().max(SignedDuration::ZERO)
    }

    /// No clock that was moved has moved a broker's time.
    pub(super) fn check_time(&self) {
        for process in &self.brokers {
            let apart = process.clock.now().duration_since(self.time.now());
            if apart.abs() > SignedDuration::from_secs(60) {
                self.broken(&format!("a broker's time is {apart} off"), None);
            }
        }
    }
}
