//! `pgbridge map lint`: what is probably not meant.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::files::{self, MapError};
use crate::cli::args::{FailOn, MapLint};
use crate::cli::doctor;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::operate::configuration;
use crate::cli::terminal::{self, Shown, note, safe_json};
use crate::cluster::LookedAtRoles;
use crate::config::MapSettings;
use crate::mapping::{
    ClusterRoles, DatabaseUserView, IdentMap, LintContext, LintFinding, LintSeverity, MapUses, lint,
};
use crate::names::RoleName;

/// Checks one map.
pub(super) async fn run(command: &MapLint) -> Result<Exit, Failure> {
    let settings = command.config.as_deref().map(files::settings).transpose()?;
    let of_config = settings.as_ref().map(|settings| settings.dialect);
    let dialect = command.postgres.or(of_config).unwrap_or_default();
    let map = match (&command.file, &command.config, &settings) {
        (None, Some(config), Some(settings)) => files::map_of(config, settings, dialect)?,
        (file, _, settings) => {
            let disk = settings.as_ref().map(|settings| settings.disk.clone()).unwrap_or_default();
            // The arguments name one of the two.
            files::map(file.as_deref().unwrap_or(Path::new("")), dialect, &disk)?
        }
    };
    let clusters = match (&command.config, &settings) {
        (Some(config), Some(settings)) if command.clusters => {
            ask_clusters(config, settings, &map).await?
        }
        _ => Vec::new(),
    };
    let uses = settings.as_ref().map(|settings| &settings.uses);
    let findings = lint(&map, &LintContext { uses, clusters: &clusters });
    let text = if command.json { as_json(&findings) } else { as_text(&findings) };
    if findings.is_empty() && !command.json {
        note("nothing was found");
    } else {
        terminal::answer(&text).map_err(Failure::Output)?;
    }
    let least = match command.fail_on {
        FailOn::Warning => LintSeverity::Warning,
        FailOn::Error => LintSeverity::Error,
    };
    let fails = findings.iter().any(|finding| finding.severity >= least);
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

/// What the clusters of the configuration say of every role that the map names or they lend.
async fn ask_clusters(
    config: &Path,
    settings: &MapSettings,
    map: &IdentMap,
) -> Result<Vec<ClusterRoles>, Failure> {
    let names = named_roles(&settings.uses, map);
    let examinations = doctor::examinations(configuration(config)?, None)?;
    let mut clusters = Vec::new();
    for one in examinations {
        let cluster = one.cluster().clone();
        let looked = one.look_at_roles(&names).await.map_err(|why| MapError::Cluster {
            cluster: cluster.to_string(),
            why: Shown::new(why),
        })?;
        let LookedAtRoles { powers, members } = looked;
        clusters.push(ClusterRoles { cluster, roles: powers, members });
    }
    Ok(clusters)
}

fn named_roles(uses: &MapUses, map: &IdentMap) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = uses.lent().keys().map(RoleName::to_string).collect();
    let lines = uses.used_maps().flat_map(|name| map.rules(name));
    names.extend(lines.filter_map(|rule| match rule.database_user() {
        DatabaseUserView::MemberOf(group) => std::str::from_utf8(group).ok().map(str::to_owned),
        _ => None,
    }));
    names
}

/// One line a finding, and what to do below it.
fn as_text(findings: &[LintFinding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{}\n    {}", Shown::new(finding), finding.hint);
    }
    let [errors, warnings] = counted(findings);
    let of =
        |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let _ = writeln!(text, "{}, {}", of(errors, "error"), of(warnings, "warning"));
    text
}

fn as_json(findings: &[LintFinding]) -> String {
    let [errors, warnings] = counted(findings);
    let value = json!({ "findings": findings, "errors": errors, "warnings": warnings });
    safe_json(&format!("{value:#}"))
}

fn counted(findings: &[LintFinding]) -> [usize; 2] {
    [LintSeverity::Error, LintSeverity::Warning]
        .map(|severity| findings.iter().filter(|finding| finding.severity == severity).count())
}
