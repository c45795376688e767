//! Many clients at one thing for a while: how often, and how long each time took.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long each side of a round runs.
pub fn side() -> Duration {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(1.0))
}

/// What one side did, over all rounds.
#[derive(Default)]
pub struct Tally {
    times: Vec<Duration>,
    ran: Duration,
}

impl Tally {
    /// Lets each of `clients` do its thing again and again for `limit`.
    pub async fn add<Client, Turn>(
        &mut self,
        clients: Vec<Client>,
        limit: Duration,
        turn: impl Fn(Client) -> Turn + Clone + Send + 'static,
    ) -> Vec<Client>
    where
        Client: Send + 'static,
        Turn: Future<Output = Client> + Send,
    {
        let begun = Instant::now();
        let tasks = clients.into_iter().map(|mut client| {
            let turn = turn.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < limit {
                    let started = Instant::now();
                    client = turn(client).await;
                    times.push(started.elapsed());
                }
                (client, times)
            })
        });
        let mut back = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            let (client, times) = task.await.expect("a client ended early");
            self.times.extend(times);
            back.push(client);
        }
        self.ran += begun.elapsed();
        back
    }

    /// Notes one time that was measured elsewhere.
    pub fn note(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// Lets each of `clients` do its thing until there is nothing left to do.
    pub async fn until_done<Client, Turn>(
        &mut self,
        clients: Vec<Client>,
        turn: impl Fn(Client) -> Turn + Clone + Send + 'static,
    ) where
        Client: Send + 'static,
        Turn: Future<Output = Option<Client>> + Send,
    {
        let begun = Instant::now();
        let tasks = clients.into_iter().map(|mut client| {
            let turn = turn.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let started = Instant::now();
                    let Some(back) = turn(client).await else { return times };
                    client = back;
                    times.push(started.elapsed());
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            self.times.extend(task.await.expect("a client ended early"));
        }
        self.ran += begun.elapsed();
    }

    pub fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.times.len()).expect("a count")) / self.ran.as_secs_f64()
    }

    /// The time that `share` of all turns did not exceed, in milliseconds.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let last = f64::from(u32::try_from(times.len().saturating_sub(1)).expect("a count"));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (last * share).round() as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

/// Three decimals are as much as such a figure is worth.
pub fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}
