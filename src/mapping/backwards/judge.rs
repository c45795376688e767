//! Many people, judged about one role.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::answer::{LineAnswer, PersonCan};
use super::lines::{RoleLines, Steps};
use crate::mapping::explain::{Sought, Verdict};
use crate::mapping::scan::{Asked, Course, Of};
use crate::mapping::{Case, IdentMap, Maps, UnverifiedPerson};
use crate::names::MapName;

/// Judges many people about one role, each name of a map once.
pub(super) struct Judge<'d> {
    map: &'d IdentMap,
    sought: Sought<'d>,
    lines: HashMap<(&'d MapName, bool), RoleLines<'d>>,
    groups: HashMap<(&'d MapName, bool, &'d str), Steps>,
}

impl<'d> Judge<'d> {
    pub(super) fn new(map: &'d IdentMap, sought: Sought<'d>) -> Self {
        Self { map, sought, lines: HashMap::new(), groups: HashMap::new() }
    }

    /// Whether `person`, of whom these `maps` are asked, may; nothing when they may not.
    pub(super) fn judge(
        &mut self,
        maps: &'d Maps,
        person: &'d UnverifiedPerson,
    ) -> Option<PersonCan> {
        let mut course = Course::default();
        for asked in maps.asked_about(person.names()) {
            if self.pass(&asked, &mut course).is_break() {
                break;
            }
        }
        let answer = LineAnswer::of(course.arrive())?;
        (answer.verdict != Verdict::Denied).then(|| PersonCan {
            way: person.way().to_string(),
            system_user: person.system_user().to_owned(),
            answer,
        })
    }

    /// Goes down the lines of one map with one name.
    fn pass(&mut self, asked: &Asked<'d>, course: &mut Course) -> ControlFlow<()> {
        let is_folded = asked.case == Case::Insensitive;
        let key = (asked.map, is_folded);
        let lines = self
            .lines
            .entry(key)
            .or_insert_with(|| RoleLines::of(self.map, asked.map, asked.case, self.sought));
        let name = asked.name.as_bytes();
        let own;
        let steps = match asked.of {
            Of::Person => {
                own = lines.steps(name);
                &own
            }
            // Groups come again and again.
            Of::Group => {
                let key = (asked.map, is_folded, asked.name);
                self.groups.entry(key).or_insert_with(|| lines.steps(name))
            }
        };
        for (index, said) in steps {
            let Some(rule) = lines.rules.get(*index) else { continue };
            course.take(asked, *rule, said)?;
        }
        ControlFlow::Continue(())
    }
}
