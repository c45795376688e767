//! What is written down on the way down the lines.

use super::answer::{AskedLine, AskedMap, LineSaid, Spelled};
use crate::mapping::scan::{Asked, MapLine, Said, readable};
use crate::mapping::{Case, DatabaseUserView, IdentMap, RuleView, SystemUserView};
use crate::names::MapName;

/// What happens on the way down the lines.
pub(in crate::mapping) enum Telling<'t, 'm> {
    /// A map is asked about a name.
    Asks(&'t Asked<'m>),
    /// The line at this place among its lines says this; those before it that said nothing are about
    /// others.
    Says { place: usize, rule: RuleView<'m>, said: Said, decides: bool },
}

/// What is written down on the way.
pub(super) struct Minutes<'m> {
    map: &'m IdentMap,
    /// What is asked for.
    role: &'m str,
    /// Most lines that are listed, however many are asked.
    most: usize,
    asked: Vec<AskedMap>,
    listed: usize,
    unlisted: usize,
    open: Option<Open<'m>>,
}

/// The map that is being asked, and how many of its lines have been.
struct Open<'m> {
    name: &'m MapName,
    lines: usize,
}

impl<'m> Minutes<'m> {
    pub(super) fn new(map: &'m IdentMap, role: &'m str, most: usize) -> Self {
        Self { map, role, most, asked: Vec::new(), listed: 0, unlisted: 0, open: None }
    }

    pub(super) fn take(&mut self, telling: Telling<'_, 'm>) {
        match telling {
            Telling::Asks(asked) => {
                self.close();
                self.asked.push(AskedMap::begin(asked));
                self.open = Some(Open { name: asked.map, lines: 0 });
            }
            Telling::Says { place, rule, said, decides } => {
                self.pass_over(place);
                self.open = match self.open.take() {
                    Some(open) if !decides => Some(Open { lines: place + 1, ..open }),
                    _ => None,
                };
                // The line that decided is listed in any case.
                if decides || self.listed < self.most {
                    self.list(rule, said);
                } else {
                    self.unlisted += 1;
                }
            }
        }
    }

    /// Each map that was asked, and how many lines are not listed.
    pub(super) fn finish(mut self) -> (Vec<AskedMap>, usize) {
        self.close();
        (self.asked, self.unlisted)
    }

    /// The map that was asked has no more to say.
    fn close(&mut self) {
        if let Some(Open { name, .. }) = self.open {
            self.pass_over(self.map.rules(name).len());
        }
        self.open = None;
    }

    /// Lists the lines before `place` that are about others, as far as there is room.
    fn pass_over(&mut self, place: usize) {
        let Some(Open { name, lines }) = self.open else { return };
        let count = place.saturating_sub(lines);
        let room = count.min(self.most.saturating_sub(self.listed));
        for rule in self.map.rules(name).skip(lines).take(room) {
            self.list(rule, Said::OtherUser);
        }
        self.unlisted += count - room;
    }

    fn list(&mut self, rule: RuleView<'_>, said: Said) {
        self.listed += 1;
        if let Some(asked) = self.asked.last_mut() {
            let spelled = match &said {
                Said::Allows { capture } if asked.any_case => {
                    spelled(rule, &asked.name, self.role, capture.as_deref())
                }
                _ => None,
            };
            asked.lines.push(AskedLine { spelled, ..AskedLine::of(rule, said, self.role) });
        }
    }
}

impl AskedMap {
    pub(super) fn begin(asked: &Asked<'_>) -> Self {
        Self {
            map: asked.map.to_string(),
            of: asked.of.into(),
            name: asked.name.to_owned(),
            any_case: asked.case == Case::Insensitive,
            lines: Vec::new(),
        }
    }
}

impl AskedLine {
    fn of(rule: RuleView<'_>, said: Said, role: &str) -> Self {
        let line = MapLine::of(rule);
        let plain = |said| Self {
            line: line.clone(),
            said,
            capture: None,
            gives: None,
            spelled: None,
            error: None,
        };
        let with = |said, capture: Option<Vec<u8>>| {
            let gives = Some(gives(rule, capture.as_deref())).filter(|gives| gives != role);
            let capture = capture.as_deref().map(readable);
            Self { capture, gives, ..plain(said) }
        };
        match said {
            Said::OtherUser => plain(LineSaid::OtherUser),
            Said::OtherRole { capture } => with(LineSaid::OtherRole, capture),
            Said::Allows { capture } => with(LineSaid::Allows, capture),
            Said::Fails { reason } => Self { error: Some(reason), ..plain(LineSaid::Fails) },
            Said::Unknown { .. } => with(LineSaid::Unknown, None),
        }
    }
}

/// How a line spells the name and the role that it lets in, where that is not how they were asked.
fn spelled(rule: RuleView<'_>, name: &str, role: &str, capture: Option<&[u8]>) -> Option<Spelled> {
    let name = match rule.system_user() {
        SystemUserView::Literal(written) => Some(readable(written)).filter(|it| it != name),
        SystemUserView::Pattern(_) => None,
    };
    let role = match rule.database_user() {
        DatabaseUserView::Literal(_) | DatabaseUserView::WithCapture { .. } => {
            Some(gives(rule, capture)).filter(|given| given != role)
        }
        _ => None,
    };
    (name.is_some() || role.is_some()).then_some(Spelled { name, role })
}

/// What a line gives to whom it is about.
fn gives(rule: RuleView<'_>, capture: Option<&[u8]>) -> String {
    match rule.database_user() {
        DatabaseUserView::All => "all".to_owned(),
        DatabaseUserView::MemberOf(group) => format!("+{}", readable(group)),
        DatabaseUserView::Pattern(pattern) => format!("/{}", readable(pattern)),
        DatabaseUserView::Literal(role) => readable(role),
        DatabaseUserView::WithCapture { before, after } => {
            readable(&[before, capture.unwrap_or_default(), after].concat())
        }
    }
}
