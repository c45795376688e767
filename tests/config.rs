//! What `pgbridge check` tells: each mistake beside its accepted twin, as people read it.

mod kerberos;
mod map;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgbridge::cluster::ClientSslMode;
use pgbridge::config::{self, Config, StoreSettings, Transport};
use pgbridge::mapping::{ObjectPolicy, Profile};

use crate::support::{Scratch, TestCa};

/// A small configuration in which everything is right.
const GOOD: &str = r#"[server]
listen = "127.0.0.1:8432"
[broker]
marker_key_file = "marker.key"
[map]
file = "pg_ident.conf"
[access]
map = "pgbridge"
[[ldap]]
name = "corp"
map = "corp"
ldapserver = ["127.0.0.1"]
ldapbasedn = "ou=people,dc=example,dc=test"
[[cluster]]
name = "orders"
host = "127.0.0.1"
password_file = "orders.password"
[[cluster.profile]]
role = "orders_read"
databases = ["orders"]
"#;

const MAP: &str = "corp alice orders_read\npgbridge alice auditor\n";

/// A directory with the files that a configuration may name.
struct Office(Scratch);

impl Office {
    fn new() -> Self {
        let office = Self(Scratch::new("config"));
        let ca = TestCa::shared();
        let [server, other] = [ca.server_certificate(), ca.server_certificate()];
        office.put("pg_ident.conf", MAP, 0o644);
        office.put("orders.password", "s3cret\n", 0o600);
        office.put("ca.crt", &ca.pem(), 0o644);
        office.put("server.crt", &server.certificate, 0o644);
        office.put("server.key", &server.key, 0o600);
        office.put("other.key", &other.key, 0o600);
        office
    }

    fn put(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its mode can be set");
        path
    }

    fn load(&self, text: &str) -> Result<Config, String> {
        let path = self.put("pgbridge.toml", text, 0o644);
        config::load(&path).map_err(|found| self.told(&found))
    }

    /// The mistakes as they are printed, but for the directory, which has another name each time.
    fn told(&self, found: &[config::Diagnostic]) -> String {
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        lines.join("\n").replace(&format!("{}/", self.0.path().display()), "")
    }

    fn good(&self, text: &str) -> Config {
        self.load(text).unwrap_or_else(|told| panic!("refused:\n{told}\n--\n{text}"))
    }

    fn refused(&self, text: &str) -> String {
        self.load(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"))
    }
}

/// `GOOD` with `from` replaced once.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

/// One change of the good configuration that is refused, and its twin that is not.
struct Twins {
    /// What is changed.
    from: &'static str,
    refused: &'static str,
    accepted: &'static str,
}

const fn twins(from: &'static str, refused: &'static str, accepted: &'static str) -> Twins {
    Twins { from, refused, accepted }
}

const LISTEN: &str = "listen = \"127.0.0.1:8432\"";
const BROKER: &str = "[broker]\n";
const SERVERS: &str = "ldapserver = [\"127.0.0.1\"]";
const BASE: &str = "ldapbasedn = \"ou=people,dc=example,dc=test\"";
const HOST: &str = "host = \"127.0.0.1\"";
const DATABASES: &str = "databases = [\"orders\"]";
const LDAP_MAP: &str = "map = \"corp\"\n";

const TWINS: &[Twins] = &[
    // The shape of the file.
    twins(BROKER, "[broker]\ncreate_within = 30\n", "[broker]\ncreate_within = \"30s\"\n"),
    twins(BROKER, "[broker]\noutlive_login = \"no\"\n", "[broker]\noutlive_login = false\n"),
    twins(BROKER, "[broker]\nid = \"Main\"\n", "[broker]\nid = \"main\"\n"),
    twins(BROKER, "[broker]\nrole_prefix = \"pg_x_\"\n", "[broker]\nrole_prefix = \"pgx_\"\n"),
    twins(BROKER, "[broker]\nreconcile_evry = \"1m\"\n", "[broker]\nreconcile_every = \"1m\"\n"),
    twins(BROKER, "[broker]\nmax_clock_skew = \"2s\"\n", "[broker]\nmax_clock_skew = \"30s\"\n"),
    twins(BROKER, "[broker]\nreconcile_every = \"2h\"\n", "[broker]\nreconcile_every = \"1h\"\n"),
    twins(BROKER, "[brokers]\n", "[broker]\n"),
    twins(BROKER, "[[broker]]\n", "[broker]\n"),
    twins("[[ldap]]", "[ldap]", "[[ldap]]"),
    twins("name = \"corp\"\n", "", "name = \"corp\"\n"),
    twins("file = \"pg_ident.conf\"", "file = \"\"", "file = \"./pg_ident.conf\""),
    twins(LISTEN, "listen = \"127.0.0.1:8432\"\nlisten = \"127.0.0.1:1\"", LISTEN),
    twins(LISTEN, "listen = 127.0.0.1:8432", LISTEN),
    // [server]
    twins(LISTEN, "listen = \"localhost:8432\"", "listen = \"[::1]:8432\""),
    twins(LISTEN, "listen = \"10.0.0.1:8432\"", "listen = \"127.9.9.9:8432\""),
    twins(
        LISTEN,
        "listen = \"10.0.0.1:443\"\ncertificate_file = \"server.crt\"",
        "listen = \"10.0.0.1:443\"\ncertificate_file = \"server.crt\"\nkey_file = \"server.key\"",
    ),
    twins(
        LISTEN,
        "certificate_file = \"server.crt\"\nkey_file = \"other.key\"",
        "certificate_file = \"server.crt\"\nkey_file = \"server.key\"",
    ),
    twins(
        LISTEN,
        "certificate_file = \"server.key\"\nkey_file = \"server.key\"",
        "certificate_file = \"server.crt\"\nkey_file = \"server.key\"",
    ),
    twins(
        LISTEN,
        "listen = \"0.0.0.0:443\"\ncertificate_file = \"server.crt\"\nkey_file = \"server.key\"",
        "listen = \"0.0.0.0:443\"\ncertificate_file = \"server.crt\"\nkey_file = \"server.key\"\n\
         public_url = \"https://b.example.test\"",
    ),
    twins(LISTEN, "public_url = \"http://b.test\"", "public_url = \"https://b.test\""),
    twins(
        LISTEN,
        "public_url = \"http://127.0.0.1:8432\"\ncertificate_file = \"server.crt\"\n\
         key_file = \"server.key\"",
        "public_url = \"https://127.0.0.1:8432\"\ncertificate_file = \"server.crt\"\n\
         key_file = \"server.key\"",
    ),
    twins(LISTEN, "public_url = \"https://b.test/x\"", "public_url = \"http://127.0.0.1:8432\""),
    twins(LISTEN, "allowed_origins = [\"*\"]", "allowed_origins = [\"https://t.example.test\"]"),
    twins(LISTEN, "max_body = \"64\"", "max_body = \"64KiB\""),
    twins(LISTEN, "max_body = \"1MB\"", "max_body = \"1MiB\""),
    // [store]
    twins(
        BROKER,
        "[store]\npath = \"a.db\"\nurl = \"postgresql://p@127.0.0.1/s\"\n\
         password_file = \"orders.password\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@127.0.0.1/s\"\n\
         password_file = \"orders.password\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\npassword_file = \"orders.password\"\nca_file = \"ca.crt\"\n\
         sslmode = \"disable\"\n[broker]\n",
        "[store]\npath = \"a.db\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"postgresql://p:hunter2@db.test/s\"\n\
         password_file = \"orders.password\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@db.test,db2.test:6432/s\"\n\
         password_file = \"orders.password\"\nca_file = \"ca.crt\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"postgresql://p@db.test/s?sslmode=require\"\n\
         password_file = \"orders.password\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@db.test/s\"\nsslmode = \"verify-full\"\n\
         password_file = \"orders.password\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"postgresql://p@db.test/s\"\nsslmode = \"disable\"\n\
         ca_file = \"ca.crt\"\npassword_file = \"orders.password\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@[::1]/s\"\nsslmode = \"disable\"\n\
         password_file = \"orders.password\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"postgresql://p@127.0.0.1/s\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@%2Frun%2Fpostgresql/s\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"postgresql://p@%2Frun,db.test/s\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@%2Frun/s\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"sqlite:pgbridge.db\"\n[broker]\n",
        "[store]\npath = \"pgbridge.db\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[store]\nurl = \"postgresql://p@127.0.0.1/s\"\nsslmode = \"prefer\"\n\
         password = \"x\"\npassword_file = \"orders.password\"\n[broker]\n",
        "[store]\nurl = \"postgresql://p@127.0.0.1/s\"\nsslmode = \"verify-full\"\n\
         password_file = \"orders.password\"\n[broker]\n",
    ),
    // [session]
    twins(
        BROKER,
        "[session]\nidle_timeout = \"9h\"\n[broker]\n",
        "[session]\nidle_timeout = \"8h\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[lockout]\nwindow = \"0s\"\n[broker]\n",
        "[lockout]\nwindow = \"1s\"\n[broker]\n",
    ),
    twins(
        BROKER,
        "[lockout]\naccount_failures = 0\n[broker]\n",
        "[lockout]\naccount_failures = 1\n[broker]\n",
    ),
    // [map] and [access]
    twins(
        "file = \"pg_ident.conf\"",
        "file = \"pg_ident.conf\"\npostgres = 12",
        "file = \"pg_ident.conf\"\npostgres = 13",
    ),
    twins(
        "file = \"pg_ident.conf\"",
        "file = \"pg_ident.conf\"\npostgres = \"16\"",
        "file = \"pg_ident.conf\"\npostgres = 18",
    ),
    twins(HOST, "host = \"127.0.0.1\"\npostgres = 19", "host = \"127.0.0.1\"\npostgres = 18"),
    twins(
        LDAP_MAP,
        "map = \"corp\"\ncaseins_users = 1\n",
        "map = \"corp\"\ncaseins_users = true\n",
    ),
    twins("map = \"pgbridge\"", "map = \"pgbrigde\"", "map = \"pgbridge\""),
    // [[ldap]]
    twins(LDAP_MAP, "", LDAP_MAP),
    twins(LDAP_MAP, "map = \"nobody\"\n", LDAP_MAP),
    twins(
        LDAP_MAP,
        "group_map = \"corp\"\n",
        "group_map = \"corp\"\nmember_of_attribute = \"memberOf\"\n",
    ),
    twins(SERVERS, "ldapserver = []", SERVERS),
    twins(SERVERS, "ldapserver = \"127.0.0.1\"", SERVERS),
    twins(SERVERS, "ldapserver = [\"ldap://127.0.0.1\"]", "ldapserver = [\"localhost\", \"::1\"]"),
    twins(
        SERVERS,
        "ldapserver = [\"127.0.0.1\", \"dc1.test\"]",
        "ldapserver = [\"127.0.0.1\", \"dc1.test\"]\nldaptls = true",
    ),
    twins(
        SERVERS,
        "ldapserver = [\"dc1.test\"]\nldapscheme = \"ldaps\"\nldaptls = true",
        "ldapserver = [\"dc1.test\"]\nldapscheme = \"ldaps\"",
    ),
    twins(
        SERVERS,
        "ldapserver = [\"127.0.0.1\"]\nca_file = \"ca.crt\"",
        "ldapserver = [\"127.0.0.1\"]\nca_file = \"ca.crt\"\nldaptls = true",
    ),
    twins(BASE, "", BASE),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\nldapbinddn = \"cn=a,dc=test\"",
        "ldapbasedn = \"dc=test\"\nldapbinddn = \"cn=a,dc=test\"\nldapbindpasswd_file = \"orders.password\"",
    ),
    twins(
        BASE,
        "ldapprefix = \"uid=\"\nldapsearchattribute = \"uid\"",
        "ldapprefix = \"uid=\"\nldapsuffix = \",dc=test\"",
    ),
    twins(
        BASE,
        "ldapsuffix = \"@corp.test\"",
        "ldapsuffix = \"@corp.test\"\nldapbasedn = \"dc=corp,dc=test\"",
    ),
    twins(BASE, "ldapprefix = \"uid\"", "ldapprefix = \"uid=\""),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\nldapsearchattribute = \"uid\"\nldapsearchfilter = \"(uid=$username)\"",
        "ldapbasedn = \"dc=test\"\nldapsearchfilter = \"(uid=$username)\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\nldapsearchfilter = \"(uid=alice)\"\n\
         group_base_dn = \"dc=test\"\ngroup_filter = \"(member=$dn\"",
        "ldapbasedn = \"dc=test\"\nldapsearchfilter = \"(uid=$username)\"\n\
         group_base_dn = \"dc=test\"\ngroup_filter = \"(member=$dn)\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\ngroup_filter = \"(member=$dn)\"",
        "ldapbasedn = \"dc=test\"\ngroup_filter = \"(member=$dn)\"\ngroup_base_dn = \"dc=test\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\ntimeout = \"20s\"",
        "ldapbasedn = \"dc=test\"\ntimeout = \"20s\"\ndeadline = \"20s\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\ndirectory_type = \"windows\"",
        "ldapbasedn = \"dc=test\"\ndirectory_type = \"active_directory\"\ngroup_map = \"corp\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\nnetbios_domain = \"CORP\"",
        "ldapbasedn = \"dc=test\"\nnetbios_domain = \"CORP\"\n\
         directory_type = \"active_directory\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\ndirectory_type = \"active_directory\"\n\
         netbios_domain = \"CORP\\\\\"",
        "ldapbasedn = \"dc=test\"\ndirectory_type = \"active_directory\"\n\
         ldapsearchattribute = \"mail\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"dc=test\"\ndirectory_type = \"active_directory\"\n\
         ldapsearchfilter = \"(cn=$username*)\"",
        "ldapbasedn = \"dc=test\"\ndirectory_type = \"active_directory\"\n\
         ldapsearchfilter = \"(cn=$username)\"",
    ),
    twins(
        BASE,
        "ldapbasedn = \"o=corp\"\ndirectory_type = \"active_directory\"",
        "ldapbasedn = \"o=corp\"\ndirectory_type = \"active_directory\"\n\
         group_base_dn = \"dc=corp,dc=test\"",
    ),
    twins(BASE, "ldapbasedn = \"dc=test\"\nldapbindpasswd = \"x\"", BASE),
    // [[cluster]]
    twins(HOST, "host = \"db.example.test:5432\"", "host = \"db.example.test\"\nport = 5433"),
    twins(HOST, "host = \"10.0.0.1\"\nsslmode = \"disable\"", "host = \"10.0.0.1\""),
    twins(HOST, "host = \"run/pg\"", "host = \"/run/postgresql\"\nsslmode = \"disable\""),
    twins(
        HOST,
        "host = \"127.0.0.1\"\nsslmode = \"require\"",
        "host = \"127.0.0.1\"\nclient_sslmode = \"require\"",
    ),
    twins(
        HOST,
        "host = \"127.0.0.1\"\nclient_sslmode = \"verify-ca\"",
        "host = \"127.0.0.1\"\nclient_sslmode = \"verify-ca\"\nca_file = \"ca.crt\"",
    ),
    twins(HOST, "host = \"127.0.0.1\"\nport = 70000", "host = \"127.0.0.1\"\nport = 65535"),
    twins("password_file = \"orders.password\"\n", "", "password_file = \"orders.password\"\n"),
    twins("password_file", "password", "password_file"),
    // [[cluster.profile]]
    twins(
        "[[cluster.profile]]\nrole = \"orders_read\"\n",
        "",
        "[[cluster.profile]]\nrole = \"orders_read\"\n",
    ),
    twins("role = \"orders_read\"", "role = \"pg_monitor\"", "role = \"Pg_monitor\""),
    twins("role = \"orders_read\"", "role = \"pgbridge\"", "role = \"pgbridge_readers\""),
    twins(
        DATABASES,
        "databases = [\"orders\"]\n[[cluster.profile]]\nrole = \"orders_read\"\ndatabases = [\"a\"]",
        "databases = [\"orders\"]\n[[cluster.profile]]\nrole = \"orders_write\"\ndatabases = [\"a\"]",
    ),
    twins(DATABASES, "databases = []", "databases = [\"orders\", \"postgres\"]"),
    twins(DATABASES, "databases = [\"orders\", 1]", DATABASES),
    twins(
        DATABASES,
        "databases = [\"a\"]\nttl = \"9h\"",
        "databases = [\"a\"]\nttl = \"9h\"\nmax_ttl = \"9h\"",
    ),
    twins(
        DATABASES,
        "databases = [\"a\"]\nmax_ttl = \"30m\"",
        "databases = [\"a\"]\nmax_ttl = \"1h\"",
    ),
    twins(DATABASES, "databases = [\"a\"]\nnetworks = []", DATABASES),
    twins(
        DATABASES,
        "databases = [\"a\"]\nnetworks = [\"10.1.0.0/8\"]",
        "databases = [\"a\"]\nnetworks = [\"10.0.0.0/8\", \"2001:db8::/32\"]",
    ),
    twins(
        DATABASES,
        "databases = [\"a\"]\nowned_objects = \"reassign\"",
        "databases = [\"a\"]\nowned_objects = \"drop\"",
    ),
    twins(
        DATABASES,
        "databases = [\"a\"]\nsettings = { role = \"postgres\", statement_timeout = 5 }",
        "databases = [\"a\"]\nsettings = { statement_timeout = \"5min\", \"app.x\" = \"\" }",
    ),
    twins(
        DATABASES,
        "databases = [\"a\"]\nscram_iterations = 0\nconnection_limit = -1",
        "databases = [\"a\"]\nscram_iterations = 1\nconnection_limit = 1",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_its_twin_is_accepted() {
    let office = Office::new();
    let mut story = String::new();
    for Twins { from, refused, accepted } in TWINS {
        office.good(&with(from, accepted));
        let told = office.refused(&with(from, refused));
        writeln!(story, "{}\n  =>\n{told}\n", refused.trim_end()).expect("a text takes any text");
    }
    insta::assert_snapshot!(story);
}

#[test]
fn a_dozen_mistakes_are_told_at_once() {
    let text = r#"
[server]
listen = "10.0.0.1:80"
max_bdy = "64KiB"
[session]
idle_timeout = "9h"
[broker]
id = "Main Broker"
reconcile_every = 60
[map]
file = "pg_indent.conf"
[[ldap]]
name = "corp"
ldapserver = ["dc1.example.test"]
ldapbasedn = "dc=test"
ldapbindpasswd = "Sommer2024!"
[[ldap]]
name = "corp"
map = "corp"
ldapserver = []
ldapprefix = "uid="
ldapsearchfilter = "(uid=$username)"
[[cluster]]
name = "orders"
host = "db.example.test"
sslmode = "disable"
password_file = "missing.password"
[[cluster.profile]]
role = "orders_read"
databases = []
ttl = "1d"
owned_objects = "reassign"
"#;
    insta::assert_snapshot!(Office::new().refused(text));
}

#[test]
fn after_a_syntax_error_only_what_is_certain_is_told() {
    let text = with("name = \"corp\"", "name = \"corp").replace("127.0.0.1:8432", "nowhere");
    insta::assert_snapshot!(Office::new().refused(&text), @r#"
    pgbridge.toml:2:10: `listen` in [server] must be an IP address with a port, such as "127.0.0.1:8432" or "[::1]:8432"
    pgbridge.toml:10:13: not TOML: invalid basic string, expected `"`
    "#);
}

#[test]
fn the_mistakes_of_the_map_stand_in_the_same_list() {
    let office = Office::new();
    office.put("pg_ident.conf", "corp alice\ncorp bob orders_read\ncorp\n", 0o644);
    insta::assert_snapshot!(office.refused(&with(LISTEN, "listen = \"nowhere\"")), @r#"
    pg_ident.conf:1:11: missing entry: the line has fewer than three fields
      hint: a line has three fields: map name, system user, database user
    pg_ident.conf:3:5: missing entry: the line has fewer than three fields
      hint: a line has three fields: map name, system user, database user
    pgbridge.toml:2:10: `listen` in [server] must be an IP address with a port, such as "127.0.0.1:8432" or "[::1]:8432"
    "#);
}

#[test]
fn an_empty_file_is_told_what_it_lacks() {
    insta::assert_snapshot!(Office::new().refused(""), @r"
    pgbridge.toml: `file` is missing in [map]
    pgbridge.toml: there is no [[cluster]]: there is nothing to lend
      hint: the sample config/pgbridge.toml shows one
    pgbridge.toml: there is no [[ldap]]: nobody could log in
      hint: the sample config/pgbridge.toml shows one
    ");
}

#[test]
fn a_password_file_is_private_and_holds_one_line() {
    let office = Office::new();
    let password = |content: &str, mode| {
        office.put("orders.password", content, mode);
        office.load(GOOD).map(drop)
    };
    for good in ["s", "s\n", " s ", "a b\n", "ü\n"] {
        assert_eq!(password(good, 0o600), Ok(()), "{good:?}");
        assert_eq!(password(good, 0o400), Ok(()), "{good:?}");
    }
    let told = |content: &str, mode| password(content, mode).expect_err("it is refused");
    for mode in [0o640, 0o604, 0o660, 0o622, 0o611] {
        let told = told("s\n", mode);
        assert!(told.contains("a secret file that others may read"), "{mode:o}: {told}");
        assert!(told.contains("chmod 600"), "{mode:o}: {told}");
    }
    for blank in ["", "\n", " \n"] {
        assert!(told(blank, 0o600).contains("empty or blank"), "{blank:?}");
    }
    for bad in ["a\n\n", "a\nb\n", "a\r\n", "a\0\n"] {
        let told = told(bad, 0o600);
        assert!(told.contains("a line end inside the password"), "{bad:?}: {told}");
    }
    assert!(told(&"a".repeat(1025), 0o600).contains("more than 1 KiB"));
    assert_eq!(password(&"a".repeat(1024), 0o600), Ok(()));
}

#[test]
fn a_file_that_is_no_file_is_told_of_at_once() {
    let office = Office::new();
    fs::create_dir(office.0.join("directory")).expect("a directory can be made");
    let path = office.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    for name in ["directory", "pipe", "/dev/null", "/dev/zero"] {
        let told = office.refused(&with("orders.password", name));
        assert!(told.contains("no regular file"), "{name}: {told}");
    }
    for name in ["pipe", "/dev/null"] {
        let told = office.refused(&with("marker.key", name));
        let words = "`marker_key_file` in [broker] names something that is no regular file";
        assert!(told.contains(words), "{name}: {told}");
    }
    let told = office.refused(&with("orders.password", "nothing/here"));
    assert!(told.contains("a file that does not exist"), "{told}");
    let told = config::load(Path::new("/dev/zero")).err().map(|found| found[0].to_string());
    assert!(told.is_some_and(|told| told.starts_with("/dev/zero: is no regular file\n  hint: ")));
}

#[test]
fn a_ca_file_holds_certificates_and_no_key() {
    let office = Office::new();
    let text = with(HOST, "host = \"127.0.0.1\"\nca_file = \"own.crt\"");
    let ca = TestCa::shared();
    let own = |content: &str| {
        office.put("own.crt", content, 0o644);
        office.load(&text)
    };
    let commented = format!("a note\n{}another note\n{}", ca.pem(), TestCa::new().pem());
    let config = own(&commented).unwrap_or_else(|told| panic!("{told}"));
    let client = &config.clusters[0].client;
    let root = client.root_certificate.as_deref().expect("clients get the root");
    assert_eq!(root.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!root.contains("note"), "only certificates are handed out: {root}");
    assert_eq!(root.lines().next(), ca.pem().lines().next());
    assert_eq!(client.sslrootcert.as_deref(), office.0.join("own.crt").to_str());

    let with_key = format!("{}{}", ca.pem(), ca.server_certificate().key);
    let broken = ca.pem().replace("MII", "AAA");
    for (content, why) in [
        ("", "without a certificate in PEM form"),
        ("nothing\n", "without a certificate in PEM form"),
        (with_key.as_str(), "with a private key"),
        (broken.as_str(), "with a certificate that cannot be read"),
    ] {
        let told = own(content).err().unwrap_or_default();
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let office = Office::new();
    let text = with(LISTEN, "certificate_file = \"server.crt\"\nkey_file = \"server.key\"");
    let config = office.good(&text);
    let key_file = office.0.join("server.key");
    let certificate_file = office.0.join("server.crt");
    assert_eq!(
        config.server.transport,
        Transport::Tls { certificate_file, key_file: key_file.clone() }
    );
    assert_eq!(config.server.public_url.as_str(), "https://127.0.0.1:8432/");
    fs::set_permissions(&key_file, Permissions::from_mode(0o640)).expect("its mode can be set");
    assert!(office.refused(&text).contains("`key_file` in [server] names a secret file"));
}

#[test]
fn a_marker_key_may_be_missing_but_not_be_something_else() {
    let office = Office::new();
    office.good(GOOD);
    office.put("marker.key", &"0f".repeat(32), 0o600);
    office.good(GOOD);
    office.put("marker.key", &"0f".repeat(32), 0o644);
    assert!(office.refused(GOOD).contains("a secret file that others may read"));
    office.put("marker.key", "0f", 0o600);
    assert!(office.refused(GOOD).contains("without a marker key"));
    let told = office.refused(&with("marker.key", "nowhere/marker.key"));
    assert!(told.contains("in a directory that does not exist"), "{told}");
    assert!(told.contains("a relative path begins at"), "{told}");
    let told = office.refused(&with("marker.key", "/nowhere/marker.key"));
    assert!(told.contains("in a directory that does not exist"), "{told}");
    assert!(!told.contains("a relative path"), "{told}");
}

#[test]
fn what_is_not_written_follows_from_what_is() {
    let office = Office::new();
    let config = office.good(GOOD);
    let entry = &config.clusters[0];
    assert_eq!((entry.client.host.as_str(), entry.client.port), ("127.0.0.1", 5432));
    assert_eq!(entry.client.sslmode, ClientSslMode::VerifyFull);
    assert_eq!(entry.client.sslrootcert.as_deref(), Some("system"));
    let name = |text: &str| text.parse().expect("a name");
    let length = |text: &str| text.parse().expect("a length of time");
    let database = "orders".parse().expect("a name");
    let plain = Profile::plain(name("orders_read"), database, length("1h"), length("8h"));
    assert_eq!(*config.policy.targets[0].profiles[0], plain);
    assert_eq!(config.ways[0].lifetime, config.session.absolute);
    assert_eq!(config.ways[0].account_attribute, "uid");
    let StoreSettings::Sqlite { path } = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(*path, office.0.join("pgbridge.db"));

    let attic = with(HOST, "host = \"10.0.0.1\"\nport = 6432\nattic_role = \"attic\"");
    let config = office.good(&attic);
    assert_eq!(config.policy.targets[0].profiles[0].owned_objects, ObjectPolicy::Reassign);
    assert_eq!(config.clusters[0].client.port, 6432);
    let found = with(BASE, "ldapbasedn = \"dc=test\"\nldapsearchattribute = \"mail\"");
    assert_eq!(office.good(&found).ways[0].account_attribute, "mail");
}

#[test]
fn a_relative_configuration_path_finds_its_files_too() {
    let office = Office::new();
    office.good(GOOD);
    let here = std::env::current_dir().expect("there is a current directory");
    let up = here.components().skip(1).map(|_| "..").collect::<PathBuf>();
    let inside = office.0.path().strip_prefix("/").expect("it is absolute");
    let relative = up.join(inside).join("pgbridge.toml");
    assert!(config::load(&relative).is_ok());
}

#[test]
fn a_configuration_too_long_or_not_there_is_refused_without_a_place() {
    let office = Office::new();
    let long = format!("{GOOD}#{}", " ".repeat(1 << 20));
    assert_eq!(office.refused(&long), "pgbridge.toml: cannot be read: file too large");
    let missing = config::load(&office.0.join("none.toml")).err().unwrap_or_default();
    assert_eq!(office.told(&missing), "none.toml: cannot be read: no such file");
}
