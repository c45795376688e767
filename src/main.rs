//! The program `pgbridge`: reads arguments, builds, connects, runs.

use std::path::Path;
use std::process::ExitCode;

use clap::FromArgMatches;
use pgbridge::cli::{self, Cli, Command, Exit};
use pgbridge::clock::Clock;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    runtime.block_on(run(cli.command)).into()
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
        Command::Operator(command) => cli::run_operator(command).await,
    }
}

// ---------------------------------------------------------------------------------------------
// SERVE: to be replaced by the composition of the broker. It says so and fails until then.
// ---------------------------------------------------------------------------------------------

/// Runs the broker with the configuration in `config_path` until it is told to stop.
async fn serve(config_path: &Path) -> anyhow::Result<()> {
    anyhow::bail!("serve --config {} is not built yet", config_path.display())
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    cli::warn(cli::in_one_line(error));
    Exit::Failed.into()
}
