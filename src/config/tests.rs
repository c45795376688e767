//! The sample against the reader, and texts that nobody would write.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::diagnostic::{Diagnostic, Kind};
use super::reader::{Asked, Findings, Need, OtherFiles};
use super::{Config, read, sections};

const SAMPLE: &str = include_str!("../../config/pgbridge.toml");
const SAMPLE_MAP: &str = include_str!("../../config/pg_ident.conf");

/// One key as the sample has it.
struct Documented {
    line: usize,
    section: String,
    key: String,
    value: String,
    is_comment: bool,
    is_explained: bool,
}

/// Every key of the sample: `key = value` lines, in a comment or not, below their section.
fn documented() -> Vec<Documented> {
    let mut section = String::new();
    let mut all: Vec<Documented> = Vec::new();
    let mut before = "";
    for (index, line) in SAMPLE.lines().enumerate() {
        let is_comment = line.starts_with("# ");
        let text = line.strip_prefix("# ").unwrap_or(line);
        let is_key = |key: &&str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if line.starts_with('[') {
            section = line.to_owned();
        } else if let Some((key, value)) = text.split_once(" = ").filter(|(key, _)| is_key(key)) {
            let is_explained = before.starts_with("# ");
            let (section, line) = (section.clone(), index + 1);
            let (key, value) = (key.to_owned(), value.to_owned());
            all.push(Documented { line, section, key, value, is_comment, is_explained });
        }
        before = line;
    }
    all
}

fn load_in(directory: &Path, text: &str) -> (Option<Config>, Findings) {
    read(&directory.join("pgbridge.toml"), text.as_bytes().to_vec(), OtherFiles::Opened, sections)
}

fn complaints(findings: &Findings) -> String {
    listed(findings.mistakes.iter())
}

fn listed<'m>(mistakes: impl Iterator<Item = &'m Diagnostic>) -> String {
    mistakes.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A directory with every file that the sample names.
fn sample_files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for key in documented().iter().filter(|key| key.key == "file" || key.key.ends_with("_file")) {
        let content = match key.key.as_str() {
            "file" => SAMPLE_MAP.into(),
            "certificate_file" | "ca_file" => certified.cert.pem().into(),
            "key_file" => certified.signing_key.serialize_pem().into(),
            "marker_key_file" => "0".repeat(64).into(),
            "keytab_file" => keytab(&["EXAMPLE.TEST", "HTTP", "pgbridge.example.test"]),
            _ => b"a password\n".to_vec(),
        };
        let path = directory.path().join(key.value.trim_matches('"'));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

/// A keytab with one AES key, of the realm and the components in `parts`.
fn keytab(parts: &[&str]) -> Vec<u8> {
    let mut entry = u16::try_from(parts.len() - 1).unwrap().to_be_bytes().to_vec();
    for part in parts {
        entry.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        entry.extend(part.as_bytes());
    }
    entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 18, 0, 1, 7]);
    [&[5, 2][..], &u32::try_from(entry.len()).unwrap().to_be_bytes(), &entry].concat()
}

/// The sample with the comment taken from the keys of these lines.
fn uncommented(lines: &[usize]) -> String {
    let line = |(index, line): (usize, &str)| {
        let is_chosen = lines.contains(&(index + 1));
        let line = if is_chosen { line.trim_start_matches("# ") } else { line };
        format!("{line}\n")
    };
    SAMPLE.lines().enumerate().map(line).collect()
}

fn asked() -> Vec<Asked> {
    load_in(sample_files().path(), SAMPLE).1.asked
}

#[test]
fn the_sample_is_a_good_configuration() {
    let files = sample_files();
    let (config, findings) = load_in(files.path(), SAMPLE);
    assert_eq!(complaints(&findings), "");
    let config = config.unwrap();
    assert_eq!(config.ways.len(), 1);
    assert_eq!(config.kerberos.len(), 1);
    assert_eq!(config.clusters.len(), 1);
    assert_eq!(config.policy.targets[0].profiles[0].databases[0].as_str(), "orders");
}

#[test]
fn the_sample_documents_every_key_that_is_read_and_no_other() {
    let mut written = BTreeSet::new();
    for key in documented() {
        assert!(key.is_explained, "line {} has no explanation above it", key.line);
        let is_new = written.insert((key.section.clone(), key.key.clone()));
        assert!(is_new, "line {}: {} twice in {}", key.line, key.key, key.section);
    }
    let read =
        asked().iter().map(|asked| (asked.section.to_owned(), asked.key.to_owned())).collect();
    assert_eq!(written.difference(&read).collect::<Vec<_>>(), [] as [&(String, String); 0]);
    assert_eq!(read.difference(&written).collect::<Vec<_>>(), [] as [&(String, String); 0]);
}

#[test]
fn the_sample_shows_the_defaults_and_what_is_required() {
    let asked = asked();
    for key in documented() {
        let found = |asked: &&Asked| asked.section == key.section && asked.key == key.key;
        let need = asked.iter().find(found).unwrap().need;
        let Documented { line, key, value, is_comment, .. } = key;
        match need {
            Need::Required => assert!(!is_comment, "line {line}: `{key}` is required"),
            Need::Default(default) if is_comment => {
                assert_eq!(value, default, "line {line}: `{key}`");
            }
            Need::Default(_) | Need::Optional => {}
        }
    }
}

#[test]
fn each_commented_key_of_the_sample_may_be_used_as_it_stands() {
    let files = sample_files();
    let asked = asked();
    for key in documented().iter().filter(|key| key.is_comment) {
        let (_, findings) = load_in(files.path(), &uncommented(&[key.line]));
        let found = |asked: &&Asked| asked.section == key.section && asked.key == key.key;
        let is_default = matches!(asked.iter().find(found).unwrap().need, Need::Default(_));
        // A key that needs or excludes another one is told so; it must be right in itself.
        let wrong = findings.mistakes.iter().filter(|found| is_default || found.kind != Kind::Fit);
        assert_eq!(listed(wrong), "", "line {}", key.line);
    }
}

/// Alternatives of the sample that exclude each other; everything else may be used at once.
#[test]
fn all_keys_of_the_sample_may_be_used_together_but_for_the_kinds_of_bind_and_of_store() {
    let files = sample_files();
    let not_now = [
        "ldapprefix",
        "ldapsuffix",
        "ldapsearchattribute",
        // For a directory of the other type.
        "netbios_domain",
        "group_map",
        "path",
    ];
    let keys = documented();
    let chosen = keys.iter().filter(|key| !not_now.contains(&key.key.as_str()));
    let lines: Vec<usize> = chosen.map(|key| key.line).collect();
    let text =
        uncommented(&lines).replace("listen = \"127.0.0.1:8432\"", "listen = \"0.0.0.0:443\"");
    let (config, findings) = load_in(files.path(), &text);
    assert_eq!(complaints(&findings), "");
    assert!(config.is_some());
}

#[test]
fn two_hundred_thousand_brackets_are_one_mistake() {
    for text in [
        "[".repeat(200_000),
        format!("a = {}", "[".repeat(200_000)),
        format!("a = {}", "{a=".repeat(200_000)),
        format!("{}a = 1", "a.".repeat(200_000)),
        format!("[{}a]", "a.".repeat(200_000)),
        format!("a = [{}", "[]}".repeat(200_000)),
    ] {
        let (config, findings) = load_in(Path::new("/nowhere"), &text);
        assert!(config.is_none());
        assert!(
            (1..=60).contains(&findings.mistakes.len()),
            "{} mistakes",
            findings.mistakes.len()
        );
    }
}

#[test]
fn what_nests_as_deep_as_the_bound_allows_is_dropped_on_a_small_stack() {
    let dotted = "a.".repeat(15) + "a = ";
    let text = format!("{dotted}{{\n").repeat(16) + &"}\n".repeat(16);
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let reading = small.spawn(move || load_in(Path::new("/nowhere"), &text).0.is_none());
    assert!(reading.unwrap().join().unwrap());
}

#[test]
fn a_file_full_of_errors_is_told_of_briefly() {
    let (_, findings) = load_in(Path::new("/nowhere"), &"=\n".repeat(10_000));
    let told = complaints(&findings);
    assert!(findings.mistakes.len() <= 51, "{}", findings.mistakes.len());
    assert!(told.contains("more errors like these"), "{told}");
}

/// Something that must appear in no message. It could be a key, a name and a password.
const CANARY: &str = "hunter2_canary";

#[track_caller]
fn keeps_the_canary(findings: &Findings, where_it_was: &str) {
    let told = format!("{}{:?}", complaints(findings), findings.mistakes);
    assert!(!told.to_lowercase().contains("canary"), "{where_it_was}: {told}");
}

/// The sample with every key in use, and the bytes of each of its values.
fn values_in_use() -> (String, Vec<std::ops::Range<usize>>) {
    let text = uncommented(&documented().iter().map(|key| key.line).collect::<Vec<_>>());
    let mut values = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        if let Some(at) = line.find(" = ").filter(|_| !line.starts_with('#')) {
            values.push(begin + at + 3..begin + line.trim_end().len());
        }
        begin += line.len();
    }
    (text, values)
}

#[test]
fn a_secret_in_the_place_of_any_value_is_in_no_message() {
    let files = sample_files();
    let (text, values) = values_in_use();
    assert!(values.len() > 70, "{} values", values.len());
    let written = [
        format!("\"{CANARY}\""),
        format!("\"{CANARY}\\n\\u0000 {CANARY}\""),
        format!("\"https://{CANARY}:{CANARY}@{CANARY}/{CANARY}\""),
        format!("\"/{CANARY}\""),
        format!("['{CANARY}', 1, '{CANARY}']"),
        format!("{{ {CANARY} = '{CANARY}' }}"),
        // Not TOML any more.
        CANARY.to_owned(),
        format!("\"{CANARY}"),
        format!("\"\"\"{CANARY} = {CANARY}"),
        format!("['{CANARY}'"),
        format!("'{CANARY}' {CANARY}"),
        format!("{CANARY} = {CANARY}"),
        format!("\"a\"\n{CANARY}"),
        format!("\"a\"\n{CANARY} ="),
    ];
    for value in &values {
        for form in &written {
            let mut text = text.clone();
            text.replace_range(value.clone(), form);
            keeps_the_canary(&load_in(files.path(), &text).1, form);
        }
    }
}

#[test]
fn a_secret_under_a_key_that_does_not_exist_is_in_no_message() {
    let files = sample_files();
    for key in ["ldapbindpasswd", "password", "secret", "bindpw"] {
        for section in ["[server]", "[[ldap]]", "[[kerberos]]", "[[cluster]]"] {
            let line = format!("{section}\n{key} = \"{CANARY}\"");
            let (_, findings) = load_in(files.path(), &SAMPLE.replacen(section, &line, 1));
            keeps_the_canary(&findings, &line);
            let told = complaints(&findings);
            assert!(told.contains("a secret never stands in this file"), "{line}: {told}");
        }
    }
}

#[test]
fn what_stands_in_a_named_file_is_in_no_message() {
    let (text, _) = values_in_use();
    for key in documented().iter().filter(|key| key.key == "file" || key.key.ends_with("_file")) {
        for content in [
            format!("{CANARY}\n{CANARY}"),
            CANARY.to_owned(),
            format!("-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----\n"),
            format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"),
        ] {
            let files = sample_files();
            fs::write(files.path().join(key.value.trim_matches('"')), &content).unwrap();
            keeps_the_canary(&load_in(files.path(), &text).1, &content);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_at_all_makes_the_reader_panic(text in ".{0,200}") {
        let _ = load_in(Path::new("/nowhere"), &text);
    }

    #[test]
    fn no_bytes_at_all_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(Path::new("/nowhere"), bytes, OtherFiles::Opened, sections);
    }

    #[test]
    fn no_damage_to_the_sample_makes_the_reader_panic(
        at in 0..SAMPLE.len(),
        length in 0..40_usize,
        put in "[\\[\\]{}\"'=.,#\\\\a-z0-9\n \u{e9}]{0,6}",
    ) {
        let whole = uncommented(&(1..SAMPLE.lines().count()).collect::<Vec<_>>());
        let mut bytes = whole.into_bytes();
        let at = at.min(bytes.len());
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, put.bytes());
        let _ = read(Path::new("/nowhere"), bytes, OtherFiles::Opened, sections);
    }
}
