//! `[session]`: how long a login is remembered.

use super::form;
use super::reader::Table;
use crate::auth::SessionTimes;

pub(super) fn read(table: Table<'_>) -> Option<SessionTimes> {
    let length = form::duration("1s", "30d");
    let idle = table.defaulted("idle_timeout", "\"30m\"", &length);
    let absolute = table.defaulted("absolute_timeout", "\"8h\"", &length);
    if idle > absolute && absolute.is_some() {
        let hint = "shorten it, or lengthen `absolute_timeout`";
        table.mistake("idle_timeout", "is longer than `absolute_timeout`", hint);
    }
    table.finish();
    Some(SessionTimes { idle: idle?, absolute: absolute? })
}
