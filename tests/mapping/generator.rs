//! Map files at random, in the oddest writing that is still meant to be read, and whom to ask about.
//!
//! Whether a file is one that PostgreSQL accepts is not known here: that is what is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::patterns::Builder;

/// The lines of one map, the files that they name, and what they make one want to know.
#[derive(Clone, Debug, Default)]
pub struct Fragment {
    pub text: Vec<u8>,
    /// By their paths from the directory of the main file.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub users: Vec<Vec<u8>>,
    pub roles: Vec<Vec<u8>>,
    /// Database users with `\1`: roles come of them with each piece of a user.
    pub templates: Vec<Vec<u8>>,
    /// Regular expressions, behind their `/`.
    pub patterns: Vec<Vec<u8>>,
    /// Bytes were changed at random, or a quote is not closed: an expression may be another one.
    pub damaged: bool,
}

impl Fragment {
    /// Whether there may be an expression in it, be it one that nobody meant.
    pub fn may_have_patterns(&self) -> bool {
        !self.patterns.is_empty() || self.damaged && self.text.contains(&b'/')
    }
}

/// Roles that [`ROLES_SQL`] makes, by who is a member of whom.
pub const ROLES_SQL: &str = r#"
CREATE ROLE readers NOLOGIN;
CREATE ROLE writers NOLOGIN;
CREATE ROLE "odd group" NOLOGIN;
CREATE ROLE "Readers" NOLOGIN;
CREATE ROLE nobody_is_in NOLOGIN;
CREATE ROLE "group\1" NOLOGIN;
CREATE ROLE direct LOGIN IN ROLE readers;
CREATE ROLE between NOLOGIN IN ROLE writers;
CREATE ROLE indirect LOGIN IN ROLE between;
CREATE ROLE keeps_apart LOGIN NOINHERIT IN ROLE readers, "odd group";
CREATE ROLE chief SUPERUSER LOGIN;
CREATE ROLE capital LOGIN IN ROLE "Readers", "group\1";
CREATE ROLE outsider LOGIN;
GRANT readers TO between;
"#;

/// The same with what majors from 16 on can say of a membership.
pub const ROLES_SQL_16: &str = "
CREATE ROLE not_inheriting LOGIN;
GRANT readers TO not_inheriting WITH INHERIT FALSE;
CREATE ROLE admin_only LOGIN;
GRANT writers TO admin_only WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
";

const NAMES: [&[u8]; 26] = [
    b"alice",
    b"bob",
    b"Alice",
    b"alice@CORP.TEST",
    b"bob@CORP.TEST",
    b"alice@OTHER.TEST",
    b"we ird",
    b"tab\there",
    b"x#y",
    b"a,b",
    b"q\"uote",
    "\u{e9}t\u{e9}".as_bytes(),
    b"\xff\xfe",
    b"\xc3",
    b"back\\slash",
    b"end\\",
    b"CN=alice,OU=People,O=Example",
    b"all",
    b"+readers",
    b"@alice",
    b"include",
    b"svc-app-prod",
    b"form\x0cfeed\x0b",
    b"cr\rcr",
    b"-",
    b"\\1",
];

const ROLES: [&[u8]; 30] = [
    b"alice",
    b"bob",
    b"Alice",
    b"all",
    b"direct",
    b"indirect",
    b"between",
    b"readers",
    b"writers",
    b"Readers",
    b"keeps_apart",
    b"chief",
    b"capital",
    b"outsider",
    b"not_inheriting",
    b"admin_only",
    b"postgres",
    b"no such role",
    b"+readers",
    b"/alice",
    b"\\1",
    b"a\\1",
    b"app_reader",
    b"dev_alice",
    b"\xff",
    b"quo\"te",
    b"a,b#c",
    b"group\\1",
    b"pg_monitor",
    b"sixty_three_bytes_and_then_some_more_of_them_to_be_cut_off_by_all_servers",
];

const GROUPS: [&[u8]; 13] = [
    b"readers",
    b"readers",
    b"writers",
    b"writers",
    b"odd group",
    b"Readers",
    b"nobody_is_in",
    b"missing",
    b"group\\1",
    b"direct",
    b"postgres",
    b"pg_read_all_settings",
    b"",
];

/// Expressions for a system user as people write them, each with users that it is for.
const USER_PATTERNS: [(&[u8], &[&[u8]]); 34] = [
    (b"^(.*)@CORP\\.TEST$", &[b"alice@CORP.TEST", b"@CORP.TEST", b"a@b@CORP.TEST"]),
    (b"^([^@]+)@corp\\.test$", &[b"bob@corp.test", b"bob@CORP.TEST"]),
    (b"^(.*)@(corp|other)\\.test$", &[b"x@corp.test", b"x@other.test"]),
    (b"(.*)@CORP.TEST", &[b"alice@CORP.TEST", b"alice@CORPxTEST.more"]),
    (b"^([a-z]+)$", &[b"alice", b"Alice", b"alice\n"]),
    (b"^(svc|svc-app)-(.*)$", &[b"svc-app-prod", b"svc-x"]),
    (b"^svc-(?:app|web)-([a-z0-9]+)$", &[b"svc-app-prod", b"svc-web-1"]),
    (b"^CN=([^,]+),OU=People,O=Example$", &[b"CN=alice,OU=People,O=Example"]),
    (b"^.*OU=People,.*$", &[b"CN=alice,OU=People,O=Example"]),
    (b"^(foo)?(bar)$", &[b"foobar", b"bar"]),
    (b"alice", &[b"alice", b"malice", b"alic"]),
    (b"^alice", &[b"alice", b"alice2"]),
    (b"alice$", &[b"alice", b"malice"]),
    (b"", &[b"anyone"]),
    (b".*", &[b"anyone", b"any\none"]),
    (b"^.$", &[b"a", "\u{e9}".as_bytes(), b"\xff"]),
    (b"^..$", &["\u{e9}".as_bytes(), b"ab"]),
    (b"^(\\w+)\\.(\\w+)@", &[b"a.b@c", b"alice.smith@corp"]),
    (b"(?i)^(alice)@corp$", &[b"ALICE@corp", b"alice@CORP"]),
    (b"^(a|ab)(c|bcd)(d*)$", &[b"abcd", b"acd", b"abbcd"]),
    (b"^([[:alnum:]_]{1,8})$", &[b"alice", b"alice_2", b"alice_long_name"]),
    (b"^u([0-9]+)$", &[b"u42", b"u"]),
    (b"^(?!root)([a-z]+)$", &[b"alice", b"root", b"rooty"]),
    (b"^([a-z]+)(?=@corp)", &[b"alice@corp", b"alice@other"]),
    (b"^(a+?)(a*)$", &[b"aaa"]),
    (b"^(.*?)-(.*)$", &[b"a-b-c", b"-"]),
    (b"^(.)\\1$", &[b"aa", b"ab"]),
    (b"\\malice\\M", &[b"alice", b"alice@corp", b"malice"]),
    (b"***=alice", &[b"alice", b"x alice"]),
    (b"^[^\\s@]+@\\S+$", &[b"a@b", b"a b@c"]),
    (b"^(\xff+)$", &[b"\xff", b"\xff\xff"]),
    (b"^([a-z]{2,4}|x)+$", &[b"abcd", b"xab", b"a"]),
    (b"^(", &[b"("]),
    (b"^\\", &[b"\\"]),
];

/// Expressions for a role, each with roles that it is for.
const ROLE_PATTERNS: [(&[u8], &[&[u8]]); 14] = [
    (b"^app_", &[b"app_reader", b"xapp_"]),
    (b"^(dev|qa)_[a-z]+$", &[b"dev_alice", b"qa_x", b"prod_x"]),
    (b"alice", &[b"alice", b"dev_alice"]),
    (b"^alice$", &[b"alice", b"Alice"]),
    (b".*", &[b"anything"]),
    (b"", &[b"anything"]),
    (b"_ro$", &[b"sales_ro", b"sales_rw"]),
    (b"(?i)^ALICE$", &[b"alice", b"Alice"]),
    (b"^\\\\1$", &[b"\\1"]),
    (b"\\1", &[b"\\1"]),
    (b"(a)\\1", &[b"aa", b"ab"]),
    (b"^[^x]*$", &[b"alice", b"x"]),
    (b"^(", &[b"^("]),
    (b"^[", &[b"["]),
];

const TEMPLATES: [&[u8]; 12] = [
    b"\\1", b"\\1", b"\\1", b"dev_\\1", b"\\1_ro", b"\\1\\1", b"\\\\1", b"\\2\\1", b"a\\1b",
    b"+\\1", b"\\1 x", b"/\\1",
];

/// What odd lines are made of: plain pieces of a field, of which the first four are most of them,
/// pieces within quotes, what stands before and after a field, and line ends. Those that join lines
/// come last.
const PLAIN: [&[u8]; 12] = [
    b"a",
    b"b",
    b"m",
    "\u{e9}".as_bytes(),
    b"al",
    b"+",
    b"@",
    b"a.b",
    b"\\",
    b"\\\\",
    b"\"\"",
    b"\"",
];
const QUOTED: [&[u8]; 9] =
    [b"a", b" ", b"#", b",", b"\"\"", b"\t", b"\\", b"/x", "\u{e9}".as_bytes()];
const BEFORE: [&[u8]; 8] = [b"", b"", b"", b"", b"", b"", b",", b"#"];
const BLANKS: [&[u8]; 8] = [b" ", b" ", b" ", b"\t", b"\r", b"  ", b" \\\n", b"\\\n "];
const ENDS: [&[u8]; 7] = [b"\n", b"\r\n", b"\n\n", b" # c\n", b"", b"\\\n", b"\\\n\n"];

/// What is written into a field, and whether it is to be read as more than its bytes.
struct Token {
    bytes: Vec<u8>,
    speaks: bool,
}

struct Rule {
    system_user: Token,
    database_user: Token,
}

pub struct Generator<'dice> {
    dice: &'dice mut StdRng,
    major: u32,
    fragment: Fragment,
    files: u32,
}

impl<'dice> Generator<'dice> {
    pub fn new(dice: &'dice mut StdRng, major: u32) -> Self {
        Self { dice, major, fragment: Fragment::default(), files: 0 }
    }

    /// The lines of `map`; what they include lies under `directory`, which nobody else uses.
    pub fn fragment(mut self, map: &str, directory: &str) -> Fragment {
        let count = self.dice.random_range(1..=5);
        let rules: Vec<_> = (0..count).map(|_| self.rule()).collect();
        let base = Path::new(directory).to_owned();
        let mut text = self.block(map, &rules, Path::new(""), &base, 0);
        if self.one_in(4) {
            text.extend(self.odd_lines(map));
        }
        if self.dice.random_ratio(1, 12) {
            self.damage(&mut text);
            self.fragment.damaged = true;
        }
        self.fragment.text = text;
        self.fragment
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(self.dice).expect("something to choose from")
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.dice.random_ratio(1, many)
    }

    fn rule(&mut self) -> Rule {
        let stranger = self.pick(&NAMES).to_vec();
        self.fragment.users.push(stranger);
        let other = self.pick(&ROLES).to_vec();
        self.fragment.roles.push(other);
        let rule = Rule { system_user: self.system_user(), database_user: self.database_user() };
        let patterns =
            [&rule.system_user, &rule.database_user].map(|token| token.bytes.strip_prefix(b"/"));
        self.fragment.patterns.extend(patterns.into_iter().flatten().map(<[u8]>::to_vec));
        rule
    }

    fn system_user(&mut self) -> Token {
        let bytes = match self.dice.random_range(0..12) {
            0..5 => {
                let name = self.pick(&NAMES).to_vec();
                self.fragment.users.push(name.clone());
                name
            }
            5 if self.one_in(4) => {
                let name = b"n".repeat(self.pick(&[255, 1000, 10_239, 10_240, 20_000]));
                self.fragment.users.push(name.clone());
                name
            }
            5..8 => {
                let (pattern, sample) = {
                    let mut builder = Builder { dice: self.dice };
                    builder.sequence(2)
                };
                self.fragment.users.push(sample.clone().into_bytes());
                self.fragment.users.push(format!("{sample}a").into_bytes());
                let (begin, end) = self.pick(&[("^", "$"), ("^", "$"), ("", ""), ("^", "")]);
                format!("/{begin}{pattern}{end}").into_bytes()
            }
            _ => {
                let (pattern, samples) = self.pick(&USER_PATTERNS);
                self.fragment.users.extend(samples.iter().map(|sample| sample.to_vec()));
                [b"/", pattern].concat()
            }
        };
        Token { bytes, speaks: false }
    }

    fn database_user(&mut self) -> Token {
        let mut speaks = !self.one_in(6);
        let bytes = match self.dice.random_range(0..12) {
            0..3 => {
                speaks = false;
                let role = self.pick(&ROLES).to_vec();
                self.fragment.roles.push(role.clone());
                role
            }
            3 => b"all".to_vec(),
            4..6 => {
                let group = self.pick(&GROUPS);
                self.fragment.roles.extend([group.to_vec(), [b"+", group].concat()]);
                for member in [&b"direct"[..], b"indirect", b"chief", b"keeps_apart", b"capital"] {
                    self.fragment.roles.push(member.to_vec());
                }
                [b"+", group].concat()
            }
            6..8 => {
                let (pattern, samples) = self.pick(&ROLE_PATTERNS);
                self.fragment.roles.extend(samples.iter().map(|sample| sample.to_vec()));
                [b"/", pattern].concat()
            }
            _ => {
                let template = self.pick(&TEMPLATES).to_vec();
                self.fragment.templates.push(template.clone());
                template
            }
        };
        self.fragment.roles.push(bytes.clone());
        Token { bytes, speaks }
    }

    /// The text of a file in `place` (from the main file's directory), which is under `base`.
    fn block(
        &mut self,
        map: &str,
        rules: &[Rule],
        place: &Path,
        base: &Path,
        depth: u32,
    ) -> Vec<u8> {
        let mut text = Vec::new();
        let mut rest = rules;
        while let [rule, others @ ..] = rest {
            if self.major >= 16 && depth < 4 && self.one_in(if depth == 0 { 8 } else { 4 }) {
                let count = self.dice.random_range(1..=rest.len());
                let (inner, outer) = rest.split_at(count);
                text.extend(self.include(map, inner, place, base, depth));
                rest = outer;
            } else {
                text.extend(self.line(map, rule, place, base));
                rest = others;
            }
            text.extend(self.pick(&[
                &b""[..],
                b"",
                b"",
                b"",
                b"",
                b"",
                b"\n",
                b"# comment\n",
                b" \t\r\n",
            ]));
        }
        text
    }

    /// A directive, whose file or files hold `rules`.
    fn include(
        &mut self,
        map: &str,
        rules: &[Rule],
        place: &Path,
        base: &Path,
        depth: u32,
    ) -> Vec<u8> {
        if self.one_in(40) {
            return self.chain(place, base);
        }
        if self.one_in(4) {
            return self.include_directory(map, rules, place, base, depth);
        }
        let directive = self.pick(&["include", "include", "include_if_exists", "\"include\""]);
        let inner = base.join(self.pick(&["", "", "sub", "sub dir", "deeper/still"]));
        let path = inner.join(self.file_name());
        let mut text = self.block(map, rules, &inner, base, depth + 1);
        if self.one_in(5) && text.ends_with(b"\n") {
            text.pop();
        }
        self.fragment.files.insert(path.clone(), text);
        let mut line = format!("{directive} ").into_bytes();
        line.extend(self.path_token(&path, place));
        line.push(b'\n');
        if self.one_in(8) {
            line.extend(b"include_if_exists no_such_file\n");
        }
        if self.one_in(60) {
            line.extend(b"include no_such_file\n");
        }
        line
    }

    /// A file that includes a file, about as often as it may be done.
    fn chain(&mut self, place: &Path, base: &Path) -> Vec<u8> {
        let length = self.dice.random_range(8..=12);
        let names: Vec<_> = (0..length).map(|_| base.join(self.file_name())).collect();
        for pair in names.windows(2) {
            let next = pair[1].file_name().expect("a name").to_string_lossy();
            let text = format!("include {}\n", quoted_whole(next.as_bytes()));
            self.fragment.files.insert(pair[0].clone(), text.into_bytes());
        }
        self.fragment.files.insert(names[names.len() - 1].clone(), b"deep alice alice\n".to_vec());
        let mut line = b"include ".to_vec();
        line.extend(self.path_token(&names[0], place));
        line.push(b'\n');
        line
    }

    fn include_directory(
        &mut self,
        map: &str,
        rules: &[Rule],
        place: &Path,
        base: &Path,
        depth: u32,
    ) -> Vec<u8> {
        const NAMES: [&str; 9] = [
            "02_a.conf",
            "01_z.conf",
            "B.conf",
            "a.conf",
            "x .conf",
            ".hidden.conf",
            "n.conf~",
            "conf",
            "\u{e9}.conf",
        ];
        self.files += 1;
        let inner = base.join(format!("dir{}", self.files));
        let mut rest = rules;
        while !rest.is_empty() {
            let count = self.dice.random_range(1..=rest.len());
            let (some, others) = rest.split_at(count);
            let name = self.pick(&NAMES);
            let mut text = self.block(map, some, &inner, base, depth + 1);
            let path = inner.join(name);
            // What was meant for two files of one name is in one.
            if let Some(before) = self.fragment.files.remove(&path) {
                text = [before, b"\n".to_vec(), text].concat();
            }
            self.fragment.files.insert(path, text);
            rest = others;
        }
        let mut line = b"include_dir ".to_vec();
        line.extend(self.path_token(&inner, place));
        line.push(b'\n');
        line
    }

    fn file_name(&mut self) -> String {
        self.files += 1;
        let kind = self.pick(&["inc", "inc.conf", "with blank", "with,comma", "\u{e9}"]);
        format!("{}{kind}", self.files)
    }

    /// `path` as a token in a file of the directory `place`, both from the main file's directory.
    fn path_token(&mut self, path: &Path, place: &Path) -> Vec<u8> {
        let up = place.components().map(|_| "..").collect::<PathBuf>();
        let inside = path.strip_prefix(place).map(Path::to_owned);
        let mut written = inside.unwrap_or_else(|_| up.join(path)).to_string_lossy().into_owned();
        if self.one_in(10) {
            written = format!("./{written}");
        }
        quoted_whole(written.as_bytes()).into_bytes()
    }

    fn line(&mut self, map: &str, rule: &Rule, place: &Path, base: &Path) -> Vec<u8> {
        let mut line =
            self.pick(&["", "", "", "", " ", "\t", ",", " ,, ", "\r"]).as_bytes().to_vec();
        let map = Token { bytes: map.as_bytes().to_vec(), speaks: false };
        let tokens = [&map, &rule.system_user, &rule.database_user];
        for (index, token) in tokens.into_iter().enumerate() {
            if index > 0 {
                line.extend(self.pick(&[&b" "[..], b" ", b"  ", b"\t", b"\r", b" \t ", b" ,"]));
            }
            if self.one_in(16) {
                line.extend(self.at_file(token, place, base));
            } else {
                line.extend(self.token(token));
            }
            if self.one_in(80) {
                line.extend(self.pick(&[&b",more"[..], b", more", b","]));
            }
            if index < 2 && self.one_in(150) {
                break;
            }
        }
        line.extend(self.pick(&[
            &b""[..],
            b"",
            b"",
            b"",
            b"",
            b"",
            b"",
            b" ",
            b"\t",
            b" fourth",
            b" a,b \"c d\"",
            b"#c",
            b" # c",
            b" # \"",
            b" # c \\ ",
        ]));
        let rarity = if self.major >= 14 { 10 } else { 60 };
        while self.one_in(rarity) {
            let at = self.dice.random_range(0..=line.len());
            line.splice(at..at, *b"\\\n");
        }
        line.extend(self.pick(&[
            &b"\n"[..],
            b"\n",
            b"\n",
            b"\n",
            b"\r\n",
            b"\r\r\n",
            b"\n\n",
            b"\\\n\n",
        ]));
        line
    }

    /// A few lines in the oddest writing, of whose fields nobody can say what they are meant to be.
    fn odd_lines(&mut self, map: &str) -> Vec<u8> {
        self.fragment.damaged = true;
        for name in &PLAIN[..5] {
            self.fragment.users.push(name.to_vec());
            self.fragment.roles.push(name.to_vec());
        }
        let mut text = Vec::new();
        for _ in 0..self.dice.random_range(1..4) {
            for index in 0..self.pick(&[2, 3, 3, 3, 3, 3, 3, 3, 3, 4]) {
                text.extend(self.pick(&BEFORE));
                if index == 0 && self.one_in(2) {
                    text.extend(quoted_whole_bytes(map.as_bytes()));
                } else {
                    text.extend(self.odd_field());
                }
                let blanks = if self.may_join() { &BLANKS[..] } else { &BLANKS[..6] };
                text.extend(self.pick(blanks));
            }
            let ends = if self.may_join() { &ENDS[..] } else { &ENDS[..5] };
            text.extend(self.pick(ends));
        }
        text
    }

    fn odd_field(&mut self) -> Vec<u8> {
        match self.dice.random_range(0..4) {
            0 => {
                let count = self.dice.random_range(0..4);
                let inner: Vec<_> = (0..count).map(|_| self.pick(&QUOTED)).collect();
                [b"\"", &inner.concat()[..], b"\""].concat()
            }
            1 => [self.pick(&PLAIN), self.pick(&PLAIN)].concat(),
            _ => self.pick(&PLAIN[..4]).to_vec(),
        }
    }

    /// Whether a line is to be joined to the next, as seldom where no server does that.
    fn may_join(&mut self) -> bool {
        self.major >= 14 || self.one_in(10)
    }

    /// The token from a file of its own, or of what is nearly that.
    fn at_file(&mut self, token: &Token, place: &Path, base: &Path) -> Vec<u8> {
        let path = base.join(self.file_name());
        let mut text = match self.dice.random_range(0..16) {
            0 => b"# nothing\n".to_vec(),
            1 => [self.token(token), b"\nmore\n".to_vec()].concat(),
            _ => [b"\n# one token\n ".to_vec(), self.token(token), b"\n\n".to_vec()].concat(),
        };
        if self.one_in(5) {
            let outer = base.join(self.file_name());
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            self.fragment.files.insert(path, text);
            text = format!("@{}\n", quoted_whole(name.as_bytes())).into_bytes();
            self.fragment.files.insert(outer.clone(), text);
            return [b"@".to_vec(), self.path_token(&outer, place)].concat();
        }
        if !self.one_in(60) {
            self.fragment.files.insert(path.clone(), text);
        }
        [b"@".to_vec(), self.path_token(&path, place)].concat()
    }

    /// A token in one of the ways that it can be written.
    fn token(&mut self, token: &Token) -> Vec<u8> {
        let Token { bytes, speaks } = token;
        let odd = |byte: &u8| b" \t\r,#\"".contains(byte);
        let bare = !bytes.iter().any(odd) && !bytes.is_empty();
        // What begins with @ names a file if it is not quoted from its first byte on.
        let names_file = bytes.len() > 1 && bytes.starts_with(b"@") && !speaks;
        let late = match &bytes[..] {
            [first, rest @ ..] if !odd(first) && !rest.is_empty() && !names_file => {
                Some([&[*first], quoted_whole_bytes(rest).as_slice()].concat())
            }
            _ => None,
        };
        if *speaks {
            return match late {
                _ if bare && !self.one_in(4) => bytes.clone(),
                Some(late) => late,
                None => bytes.clone(),
            };
        }
        match (self.dice.random_range(0..10), late) {
            (0..5, _) if bare && !names_file => bytes.clone(),
            (5, Some(late)) => late,
            (6, _) if bare => [b"\"\"", &bytes[..]].concat(),
            (7, _) if self.one_in(12) => {
                let mut open = quoted_whole_bytes(bytes);
                open.pop();
                self.fragment.damaged = true;
                open
            }
            _ => quoted_whole_bytes(bytes),
        }
    }

    /// Changes a byte or two, so that the writing is no longer one that anybody meant.
    fn damage(&mut self, text: &mut Vec<u8>) {
        for _ in 0..self.dice.random_range(1..=2) {
            let byte = self.pick(b"\"\"\"\\\\,,# \t\r\n\x0b\x0c@+/(\xff");
            let at = self.dice.random_range(0..=text.len());
            match self.dice.random_range(0..3) {
                0 if at < text.len() => text[at] = byte,
                1 if at < text.len() => {
                    text.remove(at);
                }
                _ => text.insert(at, byte),
            }
        }
    }
}

fn quoted_whole_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in bytes {
        quoted.push(*byte);
        if *byte == b'"' {
            quoted.push(b'"');
        }
    }
    quoted.push(b'"');
    quoted
}

fn quoted_whole(bytes: &[u8]) -> String {
    String::from_utf8(quoted_whole_bytes(bytes)).expect("a name that is text")
}
