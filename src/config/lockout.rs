//! `[lockout]`: how many failed logins are too many.

use super::form;
use super::reader::Table;
use crate::auth::{Lockout, LockoutRule};

pub(super) fn read(table: Table<'_>) -> Option<Lockout> {
    let count = form::integer(1, 10_000);
    let length = form::duration("1s", "1d");
    let account = table.defaulted("account_failures", "5", &count);
    let everywhere = table.defaulted("account_failures_everywhere", "100", &count);
    let source = table.defaulted("source_failures", "50", &count);
    let window = table.defaulted("window", "\"15m\"", &length);
    let pause = table.defaulted("pause", "\"15m\"", &length);
    table.finish();
    let (window, pause) = window.zip(pause)?;
    let rule = |failures| LockoutRule { failures, window, pause };
    Some(Lockout { account: rule(account?), everywhere: rule(everywhere?), source: rule(source?) })
}
