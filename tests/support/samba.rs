//! A domain controller of Active Directory, by Samba, for the domain `ad.test` (`ADTEST`).
//!
//! The ports of a domain controller are fixed, so each has a loopback address of its own. All begin
//! as the same domain, which is made once: an account has the same identifiers on each of them, as on
//! real ones. What is changed on one stays there.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::daemon::{Daemon, Signal};
use super::scratch::Scratch;
use super::tls::TestCa;
use super::{SERVICE_PASSWORD, am_root, password_of, wait_for};

/// The domain.
pub const DOMAIN: &str = "DC=ad,DC=test";
/// Its realm of Kerberos.
pub const AD_REALM: &str = "AD.TEST";
/// Where its people are.
pub const AD_PEOPLE: &str = "OU=people,DC=ad,DC=test";
/// Where its groups are.
pub const AD_GROUPS: &str = "OU=groups,DC=ad,DC=test";
/// The service account that searches. It is an ordinary account of the domain.
pub const AD_SERVICE_DN: &str = "CN=pgbridge,OU=services,DC=ad,DC=test";

const ADMINISTRATOR: &str = "Administrator@ad.test";
const ADMINISTRATOR_PASSWORD: &str = "Domain-password-1";

/// Where its services and computers are.
const AD_SERVICES: &str = "OU=services,DC=ad,DC=test";

/// How long samba may take to listen.
const STARTING: Duration = Duration::from_mins(1);

/// Organizational units, and a domain that takes every password.
const FRAME: &str = "dn: DC=ad,DC=test
changetype: modify
replace: pwdProperties
pwdProperties: 0
-
replace: minPwdLength
minPwdLength: 1
-
replace: minPwdAge
minPwdAge: 0

dn: OU=people,DC=ad,DC=test
changetype: add
objectClass: organizationalUnit

dn: OU=groups,DC=ad,DC=test
changetype: add
objectClass: organizationalUnit

dn: OU=services,DC=ad,DC=test
changetype: add
objectClass: organizationalUnit

";

/// Of each person the name, and of each group its members, which are people or groups.
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const GROUPS: [(&str, &[&str]); 2] = [
    ("orders-readers", &["CN=alice,OU=people,DC=ad,DC=test", "CN=bob,OU=people,DC=ad,DC=test"]),
    ("orders-writers", &["CN=bob,OU=people,DC=ad,DC=test"]),
];

/// A domain controller; ends on drop.
pub struct DomainController {
    scratch: Scratch,
    address: Ipv4Addr,
    daemon: Daemon,
}

impl DomainController {
    /// Starts samba with alice, bob and carol. Alice is in `orders-readers`, bob in that and in
    /// `orders-writers`. Nothing when this process is not root, which samba must be.
    pub fn start() -> Option<Self> {
        // Without TLS too, on this machine.
        Self::start_with("ldap server require strong auth = no")
    }

    /// The same, with more global lines of smb.conf(5).
    pub fn start_with(lines: &str) -> Option<Self> {
        am_root().then(|| Self::start_from(&template(), lines))
    }

    fn start_from(data: &Path, lines: &str) -> Self {
        let scratch = Scratch::new("samba");
        copy(data, &scratch.join("data"));
        for _ in 0..5 {
            let address = free_address();
            write_own_files(&scratch, address, lines);
            let mut daemon = run(&scratch);
            if listens(&mut daemon, address) {
                return Self { scratch, address, daemon };
            }
        }
        let log = fs::read_to_string(scratch.join("samba.log")).unwrap_or_default();
        panic!("samba does not start:\n{log}");
    }

    /// Its address, on which it has port 389, which also speaks StartTLS, 636, and 88 for Kerberos.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The certificate of the authority that signed its own.
    pub fn ca_file(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    /// Changes the domain as its administrator: `ldif` is a list of change records (ldif(5)).
    pub fn change(&self, ldif: &str) {
        let file = self.scratch.write("change.ldif", ldif, None);
        let mut ldapmodify = Command::new("ldapmodify");
        ldapmodify.env("LDAPTLS_CACERT", self.ca_file());
        ldapmodify.args(["-x", "-H", &format!("ldaps://{}", self.address)]);
        ldapmodify.args(["-D", ADMINISTRATOR, "-w", ADMINISTRATOR_PASSWORD, "-f"]).arg(&file);
        let changed = ldapmodify.output().expect("ldapmodify is installed");
        let said = String::from_utf8_lossy(&changed.stderr);
        assert!(changed.status.success(), "{said}\n{ldif}");
    }

    /// Changes attributes of the person `name`: `lines` are those of a change record.
    pub fn modify(&self, name: &str, lines: &str) {
        self.change(&format!("dn: CN={name},{AD_PEOPLE}\nchangetype: modify\n{lines}\n"));
    }

    /// Adds a person with a password; `lines` are more attributes.
    pub fn add_person(&self, name: &str, password: &str, lines: &str) {
        self.change(&person(&format!("CN={name},{AD_PEOPLE}"), name, password, lines));
    }

    /// Adds a computer with a password; its account is called as it is, and `$`.
    pub fn add_computer(&self, name: &str, password: &str) {
        let quoted = quoted(password);
        self.change(&format!(
            "dn: CN={name},{AD_SERVICES}\nchangetype: add\nobjectClass: computer\n\
             sAMAccountName: {name}$\nunicodePwd:: {quoted}\nuserAccountControl: 4096\n\n"
        ));
    }

    /// Adds the account `name` of `service`, such as `HTTP/web.ad.test`, and writes its key, of
    /// AES, to a file.
    pub fn add_service(&self, name: &str, service: &str) -> PathBuf {
        let dn = format!("CN={name},{AD_SERVICES}");
        let lines = format!("servicePrincipalName: {service}\nmsDS-SupportedEncryptionTypes: 24\n");
        self.change(&person(&dn, name, SERVICE_PASSWORD, &lines));
        let version = self.read(&dn, "msDS-KeyVersionNumber");
        let keytab = self.scratch.join("service.keytab");
        self.kerberos(
            "ktutil",
            &[],
            &format!(
                "addent -password -p {service}@{AD_REALM} -k {version} -e aes256-cts-hmac-sha1-96 \
                 -s {AD_REALM}{name}\n{SERVICE_PASSWORD}\nwkt {}\n",
                keytab.display()
            ),
        );
        assert!(keytab.exists(), "{service} has no key");
        keytab
    }

    /// The environment of a program that has a ticket by this name, got by a password and with
    /// `options` of kinit, and nothing else of Kerberos.
    pub fn logged_in(
        &self,
        name: &str,
        password: &str,
        options: &[&str],
    ) -> Vec<(&'static str, String)> {
        let cache = format!("FILE:{}", self.scratch.join(&format!("{name}.ticket")).display());
        let words = [options, &["-c", &cache, name]].concat();
        self.kerberos("kinit", &words, &format!("{password}\n"));
        vec![("KRB5_CONFIG", self.krb5_conf().display().to_string()), ("KRB5CCNAME", cache)]
    }

    fn krb5_conf(&self) -> PathBuf {
        self.scratch.join("krb5.conf")
    }

    /// Runs a program of Kerberos that reads `input`.
    fn kerberos(&self, program: &str, words: &[&str], input: &str) {
        let mut command = Command::new(program);
        command.args(words).env("KRB5_CONFIG", self.krb5_conf()).env_remove("KRB5CCNAME");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{program}: {error}: run scripts/install-packages test")
        });
        let mut end = child.stdin.take().expect("it has an input");
        end.write_all(input.as_bytes()).expect("it reads");
        drop(end);
        let done = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {words:?}: {said}");
    }

    /// The SID of an entry, as tools of Windows print it.
    pub fn sid(&self, dn: &str) -> String {
        let bytes = STANDARD.decode(self.read(dn, "objectSid")).expect("it is binary");
        // A revision, a count, an authority of six bytes, and numbers of four ([MS-DTYP] 2.4.2.2).
        let parts = bytes[8..].chunks(4).map(|part| {
            let part = part.try_into().expect("they are whole");
            format!("-{}", u32::from_le_bytes(part))
        });
        format!("S-{}-{}{}", bytes[0], bytes[7], parts.collect::<String>())
    }

    /// The value of an attribute that has one, as its administrator sees it: in base64 when it is no
    /// text.
    fn read(&self, dn: &str, attribute: &str) -> String {
        let mut ldapsearch = Command::new("ldapsearch");
        ldapsearch.env("LDAPTLS_CACERT", self.ca_file());
        ldapsearch.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", dn]);
        ldapsearch.args(["-H", &format!("ldaps://{}", self.address)]);
        ldapsearch.args(["-D", ADMINISTRATOR, "-w", ADMINISTRATOR_PASSWORD, attribute]);
        let found = ldapsearch.output().expect("ldapsearch is installed");
        let said = String::from_utf8_lossy(&found.stdout);
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{attribute}:")));
        let line = line.unwrap_or_else(|| panic!("{dn} has no {attribute}: {said}"));
        line.trim_start_matches([':', ' ']).to_owned()
    }

    /// From now on connections are accepted (by the kernel) and nothing is answered.
    pub fn hang(&self) {
        self.daemon.signal(Signal::Freeze);
    }

    pub fn resume(&self) {
        self.daemon.signal(Signal::Thaw);
    }

    /// Ends samba: connections are refused.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }
}

/// What samba takes as a password: the password in quotes, in UTF-16 ([MS-ADTS] 3.1.1.3.1.5), and
/// that in base64, for ldif.
fn quoted(password: &str) -> String {
    let quoted = format!("\"{password}\"");
    let quoted: Vec<u8> = quoted.encode_utf16().flat_map(u16::to_le_bytes).collect();
    STANDARD.encode(quoted)
}

/// The change that adds a person.
pub fn person(dn: &str, name: &str, password: &str, lines: &str) -> String {
    let quoted = quoted(password);
    format!(
        "dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\n\
         unicodePwd:: {quoted}\nuserAccountControl: 512\n{lines}\n\n"
    )
}

fn seed() -> String {
    let people = PEOPLE.iter().map(|name| {
        let upn = format!("userPrincipalName: {name}@ad.test");
        person(&format!("CN={name},{AD_PEOPLE}"), name, &password_of(name), &upn)
    });
    let service = person(AD_SERVICE_DN, "pgbridge", SERVICE_PASSWORD, "");
    let groups = GROUPS.iter().map(|(name, members)| {
        let members = members.iter().map(|dn| format!("member: {dn}\n"));
        let members = members.collect::<String>();
        format!(
            "dn: CN={name},{AD_GROUPS}\nchangetype: add\nobjectClass: group\n\
             sAMAccountName: {name}\n{members}\n"
        )
    });
    FRAME.to_owned() + &people.collect::<String>() + &service + &groups.collect::<String>()
}

/// A domain that was made and seeded once for all tests of this checkout. Its name holds a hash of
/// all that went into it, so that a changed seed makes a new one.
fn template() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(cache).expect("target/tmp can be made");
    let mut ingredients = DefaultHasher::new();
    (FRAME, PEOPLE, GROUPS, SERVICE_PASSWORD, ADMINISTRATOR_PASSWORD).hash(&mut ingredients);
    let template = cache.join(format!("samba-{:016x}", ingredients.finish()));

    // Tests run in processes of their own: the first one here makes it, the others wait.
    let lock = File::create(cache.join("samba.lock")).expect("a lock file can be made");
    lock.lock().expect("a file can be locked");
    if !template.exists() {
        make_template(&template);
    }
    template
}

/// Makes the domain and seeds it in a temporary directory, and moves the result to `template`.
fn make_template(template: &Path) {
    let scratch = Scratch::new("domain");
    let data = scratch.join("data");
    let mut provision = Command::new("samba-tool");
    provision.args(["domain", "provision", "--realm=AD.TEST", "--domain=ADTEST"]);
    provision.args(["--server-role=dc", "--dns-backend=NONE", "--host-name=dc1"]);
    provision.arg(format!("--adminpass={ADMINISTRATOR_PASSWORD}"));
    provision.args(["--host-ip=127.0.0.1", "--option=bind interfaces only=yes"]);
    provision.args(["--option=interfaces=127.0.0.1/8"]);
    provision.arg(format!("--targetdir={}", data.display()));
    let made = provision.output();
    let made = made
        .unwrap_or_else(|error| panic!("samba-tool: {error}: run scripts/install-packages test"));
    assert!(made.status.success(), "no domain: {}", String::from_utf8_lossy(&made.stderr));

    let mut seeded = DomainController::start_from(&data, "");
    seeded.change(&seed());
    seeded.stop();
    let part = template.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    copy(&seeded.scratch.join("data"), &part);
    fs::rename(&part, template).expect("a directory can be put in its place");
}

/// Copies a directory with all that belongs to its files.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("there is cp").success(), "{} is not copied", from.display());
}

/// Certificate, smb.conf, and krb5.conf for clients: names are what they are, whatever a name
/// server says, and every message goes over TCP.
fn write_own_files(scratch: &Scratch, address: Ipv4Addr, lines: &str) {
    let ca = TestCa::shared();
    let server = ca.certificate_for(&["dc1.ad.test", &address.to_string()]);
    scratch.write("ca.pem", &ca.pem(), None);
    scratch.write("server.pem", &server.certificate, None);
    scratch.write("server.key", &server.key, None);
    let place = scratch.path().display();
    let settings = format!(
        "[global]
    netbios name = DC1
    workgroup = ADTEST
    realm = AD.TEST
    server role = active directory domain controller
    server services = ldap, kdc
    interfaces = {address}/8
    bind interfaces only = yes
    disable netbios = yes
    ldb:nosync = true
    private dir = {place}/data/private
    state directory = {place}/data/state
    cache directory = {place}/data/cache
    binddns dir = {place}/data/bind-dns
    lock directory = {place}/data
    pid directory = {place}/data
    ncalrpc dir = {place}/data/ncalrpc
    ntp signd socket directory = {place}/data/ntp
    winbindd socket directory = {place}/data/winbindd
    tls certfile = {place}/server.pem
    tls keyfile = {place}/server.key
    tls cafile = {place}/ca.pem
    {lines}
"
    );
    scratch.write("smb.conf", &settings, None);
    let settings = format!(
        "[libdefaults]
    default_realm = {AD_REALM}
    dns_canonicalize_hostname = false
    dns_lookup_kdc = false
    dns_lookup_realm = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {AD_REALM} = {{
        kdc = {address}
    }}
"
    );
    scratch.write("krb5.conf", &settings, None);
}

/// One process in the foreground.
fn run(scratch: &Scratch) -> Daemon {
    let settings = scratch.join("smb.conf").display().to_string();
    let arguments = ["-i", "-M", "single", "--debug-stdout", "-s", &settings].map(str::to_owned);
    let log = scratch.join("samba.log");
    Daemon::start(Path::new("/usr/sbin/samba"), &arguments, None, &log, Signal::Terminate)
}

/// Waits until its ports are open; `false` when samba ended instead.
fn listens(daemon: &mut Daemon, address: Ipv4Addr) -> bool {
    wait_for("samba to start", STARTING, || {
        if !daemon.is_running() {
            return Some(false);
        }
        let open = |port: u16| TcpStream::connect((address, port)).is_ok();
        [389, 636, 88].into_iter().all(open).then_some(true)
    })
}

/// A loopback address whose LDAP port nobody has. There are so many that two tests that run side by
/// side hardly ever draw the same; whoever does draws again.
fn free_address() -> Ipv4Addr {
    for _ in 0..100 {
        let drawn: [u8; 2] = [rand::random_range(32..=250), rand::random_range(1..=250)];
        let address = Ipv4Addr::new(127, 77, drawn[0], drawn[1]);
        if TcpListener::bind((address, 389)).is_ok() {
            return address;
        }
    }
    panic!("no free loopback address");
}
