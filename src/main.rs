//! The program `pgbridge`: reads arguments, builds, connects, runs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::FromArgMatches;
use pgbridge::auth::kerberos::KerberosWay;
use pgbridge::auth::ldap::LdapWay;
use pgbridge::auth::way::Way;
use pgbridge::broker::{Broker, Parts};
use pgbridge::cli::{self, Cli, Command, Exit};
use pgbridge::clock::Clock;
use pgbridge::cluster::{Cluster, LeaseRoles};
use pgbridge::config::{self, Config, Diagnostic, LogFormat, LogLevel, LogSettings};
use pgbridge::http::{self, Listening};
use pgbridge::lease::MarkerKey;
use pgbridge::store::{self, LeaseFilter, Store};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::EnvFilter;

/// How long work may take that cannot be called off, once all else is done.
const AFTER_THE_END: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let exit = runtime.block_on(run(cli.command));
    // Comparing maps, or reading a file that hangs, must not keep the program from ending.
    runtime.shutdown_timeout(AFTER_THE_END);
    exit.into()
}

async fn run(command: Command) -> Exit {
    match command {
        Command::Serve(file) => match serve(&file.config).await {
            Ok(()) => Exit::Done,
            Err(error) => {
                failed(error.as_ref());
                Exit::Failed
            }
        },
        Command::Person(command) => cli::run_person(command, &Clock::system()).await,
        Command::Operator(command) => cli::run_operator(command, &Clock::system()).await,
    }
}

/// Runs the broker with the configuration in `config_path` until it is told to stop.
async fn serve(config_path: &Path) -> anyhow::Result<()> {
    // Secrets are in this process's memory: no core dump, and no debugger of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("core dumps stay possible")?;
    let config = config::load(config_path).map_err(|mistakes| told(&mistakes))?;
    start_log(config.log);
    tell_start(&config);
    let Config { server, store, broker: settings, session, lockout, policy, .. } = config;
    let Config { ways, kerberos, clusters, map_source, map_reload_every, .. } = config;
    let store = store::open(store).await.context("nothing was started or changed")?;
    let key = Arc::new(marker_key(&settings.marker_key_file, &*store).await?);
    let ways = ways.into_iter().map(LdapWay::new).collect::<Result<Vec<_>, _>>()?;
    tell_oddities(&ways);
    let directories = ways.into_iter().map(|way| Arc::new(way) as Arc<dyn Way>);
    let tickets = kerberos.into_iter().map(|way| Arc::new(KerberosWay::new(way)) as Arc<dyn Way>);
    let clusters = clusters.into_iter().map(|entry| {
        let (id, prefix) = (settings.id.clone(), settings.terms.role_prefix.clone());
        let cluster = Cluster::new(entry.settings, id, Arc::clone(&key), prefix)?;
        Ok((Box::new(cluster) as Box<dyn LeaseRoles>, entry.client))
    });
    let broker = Broker::new(Parts {
        clusters: clusters.collect::<anyhow::Result<_>>()?,
        store: Arc::clone(&store),
        clock: Clock::system(),
        ways: directories.chain(tickets).collect(),
        policy,
        map_source: Some((map_source, map_reload_every)),
        terms: settings.terms,
        session,
        lockout,
        max_clock_skew: settings.max_clock_skew,
        reconcile_every: settings.reconcile_every,
        recheck_every: settings.recheck_every,
        recheck_grace: settings.recheck_grace,
        max_missing: settings.max_missing,
    });
    let shutdown = server.shutdown_timeout;
    let listening = Listening::open(broker.clone(), server).await?;
    broker.record_start().await.context("the start could not be recorded, so nothing is served")?;
    let workers = broker.start();
    run_until_told(listening, &broker, &*store).await?;
    if tokio::time::timeout(shutdown, workers.stop()).await.is_err() {
        tracing::warn!("work was still in hand at the end; the next start takes it up");
    }
    broker.record_stop().await.context("the stop could not be recorded")
}

/// Tells every mistake, one below the other, and gives what is said last.
fn told(mistakes: &[Diagnostic]) -> anyhow::Error {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    anyhow::anyhow!("the configuration cannot be used; nothing was started")
}

/// Serves until told to stop, or until the store's disk has failed: then what was written last is
/// in doubt, and only a restart can read it anew.
async fn run_until_told(
    listening: Listening,
    broker: &Broker,
    store: &dyn Store,
) -> anyhow::Result<()> {
    let (stop, certificate, broker) =
        (CancellationToken::new(), listening.renew_certificate(), broker.clone());
    let hung_up = move || {
        certificate.notify_one();
        broker.reload_map();
    };
    let told = http::until_told_to_stop(stop.clone(), hung_up)?;
    let _told = AbortOnDropHandle::new(tokio::spawn(told));
    tokio::select! {
        served = listening.run(stop) => Ok(served?),
        broken = store.broken() => Err(broken.into()),
    }
}

fn start_log(settings: LogSettings) {
    // What libraries say at `info` is not for operators; the HTTP client's `debug` shows headers.
    let level = settings.level.as_str();
    let quiet = if settings.level <= LogLevel::Info { "warn" } else { "info" };
    let filter = EnvFilter::new(format!("{quiet},pgbridge={level}"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Says what is about to run, before anything is opened, and what of it is probably not meant.
fn tell_start(config: &Config) {
    let clusters: Vec<&str> =
        config.clusters.iter().map(|entry| entry.settings.name.as_str()).collect();
    let tickets = config.kerberos.iter().map(|way| way.name.as_str());
    let ways: Vec<&str> = config.ways.iter().map(|way| way.name.as_str()).chain(tickets).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        store = %config.store,
        clusters = clusters.join(", "),
        ways = ways.join(", "),
        map.revision = %config.policy.map.revision(),
        "starting"
    );
    for note in &config.notes {
        tracing::warn!("{note}");
    }
}

/// Lets each directory be asked, beside the start, what of its settings is probably not meant.
fn tell_oddities(ways: &[LdapWay]) {
    for way in ways {
        let way = way.clone();
        tokio::spawn(async move {
            if let Some(oddity) = way.oddity().await {
                tracing::warn!("{oddity}");
            }
        });
    }
}

/// The key of the marks, the same on every broker of the store: with another key, a broker would
/// not know the roles that the others made.
async fn marker_key(path: &Path, store: &dyn Store) -> anyhow::Result<MarkerKey> {
    let file = path.display();
    let (key, is_new) = match fs::read_to_string(path) {
        Ok(text) => (MarkerKey::from_hex(&text).with_context(|| format!("{file}"))?, false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            (new_marker_key(path, store).await?, true)
        }
        Err(error) => {
            return Err(error).with_context(|| format!("the marker key {file} could not be read"));
        }
    };
    let fingerprint = key.fingerprint();
    if store.marker_key(Some(&fingerprint)).await?.is_some_and(|in_force| in_force != fingerprint) {
        if is_new {
            // Another broker was quicker by a moment.
            fs::remove_file(path).with_context(|| format!("{file} could not be removed"))?;
        }
        anyhow::bail!(
            "the marker key {file} is not the one that the store's roles are marked with; copy the \
             file from another broker of this store, or bring it back from the backup"
        );
    }
    Ok(key)
}

/// Makes the key when the store knows none and has never had a lease.
async fn new_marker_key(path: &Path, store: &dyn Store) -> anyhow::Result<MarkerKey> {
    let file = path.display();
    let any = LeaseFilter { limit: Some(1), ..LeaseFilter::default() };
    let is_in_use =
        store.marker_key(None).await?.is_some() || !store.leases(&any).await?.is_empty();
    anyhow::ensure!(
        !is_in_use,
        "the marker key {file} is missing, and the store is in use with one; copy the file from \
         another broker of this store, or bring it back from the backup"
    );
    let key = MarkerKey::random(&mut rand::rng());
    let written = write_private(path, &key.expose_hex());
    written.with_context(|| format!("the marker key {file} could not be written"))?;
    Ok(key)
}

/// Writes a file that is private from its first moment, and on disk when this returns.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    cli::warn(cli::in_one_line(error));
    Exit::Failed.into()
}
