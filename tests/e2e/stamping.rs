//! An authority of time stamps over HTTP: asked by the box itself, and by hand; and what becomes of bad answers.

use super::{DATASET, TOPIC, payload};
use crate::forgetting::acted;
use crate::rig::{Rig, mosquitto_pub, often, programs, wait_for};
use guan_evidence::timestamp::TOKEN_BYTES_MAX;
use guan_spool::OsDisk;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the authority does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Right,
    /// Answers a request of its own making, about something else.
    OtherImprint,
    /// Gives the answer that it gave before.
    Again,
    Huge,
    OtherMedia,
    /// Takes the request and says nothing.
    Silent,
    Fails,
    Moves,
}

/// An authority of OpenSSL behind a small server.
struct Authority {
    folder: PathBuf,
    url: String,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicU64>,
    /// What the server shows, over TLS.
    shown: Shown,
}

/// `None`: it speaks no TLS.
type Shown = Arc<Mutex<Option<Arc<ServerConfig>>>>;

/// A connection to the box.
trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

/// A CA of servers.
struct Servers {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Servers {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(ca, key) }
    }

    /// What a server of this name shows.
    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![leaf], key).unwrap())
    }
}

fn openssl(folder: &Path, arguments: &[&str]) -> Option<bool> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    Some(output.ok()?.status.success())
}

impl Authority {
    /// `None` without OpenSSL.
    fn start(folder: PathBuf) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        let config = "[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = ext\n[dn]\nCN = Authority\n\
                      [ext]\nextendedKeyUsage = critical, timeStamping\n[tsa]\nserial = serial\n\
                      default_policy = 1.2.3.4.1\ndigests = sha256\nsigner_digest = sha256\n";
        fs::write(folder.join("tsa.cnf"), config).unwrap();
        fs::write(folder.join("serial"), "01\n").unwrap();
        let curve = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "tsa.key"];
        if openssl(&folder, &curve).is_none() {
            println!("SKIP: OpenSSL is not installed");
            return None;
        }
        let request =
            ["req", "-new", "-x509", "-config", "tsa.cnf", "-key", "tsa.key", "-days", "30"];
        assert_eq!(openssl(&folder, &[&request[..], &["-out", "tsa.pem"]].concat()), Some(true));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/tsr", listener.local_addr().unwrap());
        let (mood, asked) = (Arc::new(Mutex::new(Mood::Right)), Arc::new(AtomicU64::new(0)));
        let shown = Shown::default();
        let server = Server {
            folder: folder.clone(),
            mood: mood.clone(),
            shown: shown.clone(),
            held: Vec::new(),
        };
        let counted = asked.clone();
        std::thread::spawn(move || server.run(&listener, &counted));
        Some(Self { folder, url, mood, asked, shown })
    }

    /// From now on over TLS, as somebody.
    fn show(&mut self, server: Arc<ServerConfig>) {
        *self.shown.lock().unwrap() = Some(server);
        self.url = self.url.replace("http://127.0.0.1", "https://localhost");
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn certificate(&self) -> String {
        self.folder.join("tsa.pem").display().to_string()
    }

    /// Keys of the box's configuration.
    fn keys(&self) -> String {
        let certificate = self.certificate();
        format!("timestamp_url = \"{}\"\ntimestamp_authority_file = \"{certificate}\"\n", self.url)
    }
}

struct Server {
    folder: PathBuf,
    mood: Arc<Mutex<Mood>>,
    shown: Shown,
    /// Connections that are left open without a word.
    held: Vec<Box<dyn Line>>,
}

impl Server {
    fn run(mut self, listener: &TcpListener, asked: &AtomicU64) {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let shown = self.shown.lock().unwrap().clone();
            let mut stream: Box<dyn Line> = match shown {
                None => Box::new(stream),
                Some(shown) => {
                    let tls = ServerConnection::new(shown).unwrap();
                    Box::new(StreamOwned::new(tls, stream))
                }
            };
            // Who does not know this server leaves before the request.
            let Some(query) = query(&mut stream) else { continue };
            asked.fetch_add(1, Ordering::SeqCst);
            let mood = *self.mood.lock().unwrap();
            match mood {
                Mood::Silent => self.held.push(stream),
                Mood::Fails => put(&mut stream, "500 Internal Server Error", "text/plain", b"no"),
                Mood::Moves => {
                    let moved =
                        "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
                    let _ = stream.write_all(moved.as_bytes());
                }
                Mood::OtherMedia => put(&mut stream, "200 OK", "text/html", b"<html>"),
                Mood::Huge => reply(&mut stream, &vec![0x30; TOKEN_BYTES_MAX + 1]),
                Mood::Again => reply(&mut stream, &fs::read(self.folder.join("a.tsr")).unwrap()),
                Mood::Right => reply(&mut stream, &self.answer(&query)),
                Mood::OtherImprint => {
                    let own = ["ts", "-query", "-data", "tsa.cnf", "-sha256", "-out", "own.tsq"];
                    assert_eq!(openssl(&self.folder, &own), Some(true));
                    let own = fs::read(self.folder.join("own.tsq")).unwrap();
                    reply(&mut stream, &self.answer(&own));
                }
            }
        }
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        fs::write(self.folder.join("q.tsq"), query).unwrap();
        let reply =
            ["ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "q.tsq"];
        let more = ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "a.tsr"];
        assert_eq!(openssl(&self.folder, &[&reply[..], &more].concat()), Some(true));
        fs::read(self.folder.join("a.tsr")).unwrap()
    }
}

/// The body of a request, which is a query of time stamps; `None`: not a byte of one came.
fn query(stream: &mut impl Line) -> Option<Vec<u8>> {
    let (mut read, mut some) = (Vec::new(), [0; 1024]);
    loop {
        let count = stream.read(&mut some).unwrap_or(0);
        if count == 0 {
            assert!(read.is_empty(), "the request ends early");
            return None;
        }
        read.extend_from_slice(&some[..count]);
        let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..at]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().trim().parse().unwrap();
        if read.len() >= at + 4 + length {
            assert!(head.starts_with("post /tsr http/1.1"), "{head}");
            assert!(head.contains("content-type: application/timestamp-query"), "{head}");
            return Some(read[at + 4..].to_vec());
        }
    }
}

/// The box may have gone away meanwhile.
fn put(stream: &mut impl Line, status: &str, media: &str, body: &[u8]) {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let _ = stream.flush();
}

fn reply(stream: &mut impl Line, body: &[u8]) {
    put(stream, "200 OK", "application/timestamp-reply", body);
}

fn evidence(rig: &Rig) -> Value {
    rig.status()["evidence"].clone()
}

/// Answers that are kept.
fn kept(rig: &Rig) -> usize {
    let files = fs::read_dir(rig.stage.folder.join("box/state/timestamps"));
    let names = files.into_iter().flatten().map(|file| file.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".tsr")).count()
}

fn send(rig: &Rig) -> Result<Value, String> {
    rig.stage
        .guan_json(&["log", "timestamp", "send", "--by", "li"])
        .map_err(|fault| format!("{fault:#}"))
}

/// Whether a bundle holds, and how many stamps in it do by this certificate.
fn judge(rig: &Rig, authority: &Authority) -> Value {
    let tar = rig.stage.folder.join("stamped.tar").display().to_string();
    let _ = fs::remove_file(&tar);
    rig.stage.guan_json(&["log", "export", "--out", &tar, "--through", "1"]).unwrap();
    let verify = programs().join("guan-verify");
    let arguments = [&tar, "--json", "--tsa", &authority.certificate()];
    let output = Command::new(verify).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The box asks by itself, and what it keeps goes into bundles and holds there.
#[test]
fn a_box_has_its_log_stamped() {
    let folder = tempfile::tempdir().unwrap();
    let Some(authority) = Authority::start(folder.path().join("tsa")) else { return };
    let mut rig = Rig::start(|text| often(text) + &authority.keys());
    wait_for("a time stamp", || evidence(&rig)["stamped"][0].as_u64().is_some());
    let (found, asked) = (evidence(&rig), authority.asked());
    assert_eq!((&found["stamp_fault"], asked, kept(&rig)), (&Value::Null, 1, 1), "{found}");
    let verdict = judge(&rig, &authority);
    assert_eq!(verdict["holds"], true, "{verdict:#}");
    assert_eq!(verdict["stamped"][0]["size"], found["stamped"][0], "{verdict:#}");
    // By hand without waiting for tomorrow; the gateway's next start goes on from what is kept.
    let sent = send(&rig).unwrap();
    assert_eq!((&sent["checked"], authority.asked()), (&true.into(), 2), "{sent}");
    wait_for("the log to say so", || acted(&rig, "operator.act").len() == 1);
    let (act, name) = acted(&rig, "operator.act").remove(0);
    let answer = fs::read(authority.folder.join("a.tsr")).unwrap();
    let about = guan_model::Digest::of(&answer).to_string();
    assert_eq!((&act["act"], &name), (&"timestamp.keep".into(), &"li".into()));
    assert_eq!(act["about"], about);
    // Where the log cannot be told of it, nobody is asked.
    let acts = OsDisk::open_exclusive(&rig.stage.folder.join("box/state/acts")).unwrap();
    let fault = send(&rig).unwrap_err();
    assert!(fault.contains("in use by another process"), "{fault}");
    assert_eq!(authority.asked(), 2);
    drop(acts);
    rig.kill_and_restart_guan();
    wait_for("the status to say so", || evidence(&rig)["stamped"][0] == sent["size"]);
    assert_eq!(authority.asked(), 2, "its interval is a day");
    rig.stop_guan();
    rig.check_log();
}

/// Over TLS: a server that the configured certificates vouch for is asked. Any other is told and not shown the request:
/// one of another CA, and one of this CA with another name.
#[test]
fn an_authority_over_tls_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut authority) = Authority::start(folder.path().join("tsa")) else { return };
    let (known, other) = (Servers::new(), Servers::new());
    let file = folder.path().join("ca.pem");
    fs::write(&file, &known.pem).unwrap();
    authority.show(other.server("localhost"));
    let keys = format!("{}timestamp_ca_file = {file:?}\n", authority.keys());
    let mut rig = Rig::start(|text| often(text) + &keys);
    wait_for("the stranger to be told", || evidence(&rig)["stamp_fault"].is_string());
    let alarms = rig.status()["alarms"].to_string();
    assert!(alarms.contains("does not prove to be it by the certificates"), "{alarms}");
    assert!(
        alarms.contains("https://localhost:") && alarms.contains("invalid peer certificate"),
        "{alarms}"
    );
    authority.show(known.server("elsewhere"));
    let said = send(&rig).unwrap_err();
    assert!(said.contains("does not prove to be it") && said.contains("not valid for"), "{said}");
    assert_eq!((authority.asked(), kept(&rig)), (0, 0));
    authority.show(known.server("localhost"));
    let sent = send(&rig).unwrap();
    let found = (authority.asked(), kept(&rig));
    assert_eq!((&sent["checked"], found), (&true.into(), (1, 1)), "{sent}");
    // The box itself, from a start on: its next try is a minute off.
    rig.stop_guan();
    fs::remove_dir_all(rig.stage.folder.join("box/state/timestamps")).unwrap();
    rig.start_guan();
    wait_for("a time stamp", || evidence(&rig)["stamped"][0].as_u64().is_some());
    assert_eq!((authority.asked(), evidence(&rig)["stamp_fault"].clone()), (2, Value::Null));
    assert_eq!(judge(&rig, &authority)["holds"], true);
    rig.stop_guan();
    rig.check_log();
}

/// Whatever the authority does, it is told, nothing is kept of it, and nothing waits.
#[test]
fn a_bad_authority_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(authority) = Authority::start(folder.path().join("tsa")) else { return };
    authority.set(Mood::Silent);
    let mut rig = Rig::start(|text| often(text) + &authority.keys());
    wait_for("the box to ask", || authority.asked() == 1);
    // The request is on its way all this time.
    for number in 1..=3 {
        if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]) {
            return println!("SKIP: mosquitto_pub is not installed");
        }
    }
    rig.wait_for_rows(DATASET, 3);
    assert_eq!(authority.asked(), 1);
    let stopping = Instant::now();
    rig.stop_guan();
    assert!(stopping.elapsed() < Duration::from_secs(20), "nor does the end wait for it");
    authority.set(Mood::Fails);
    rig.start_guan();
    wait_for("the fault in the status", || evidence(&rig)["stamp_fault"].is_string());
    let status = rig.status();
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("no time stamp") && alarms.contains("status 500"), "{alarms}");
    assert!(alarms.contains(&authority.url), "{alarms}");
    for (mood, expect) in [
        (Mood::Fails, "status 500"),
        (Mood::Moves, "status 302; a redirect is not followed"),
        (Mood::OtherMedia, "sends text/html in place of"),
        (Mood::Huge, "more than 65536 bytes"),
        (Mood::OtherImprint, "about another digest"),
    ] {
        authority.set(mood);
        let said = send(&rig).unwrap_err();
        assert!(said.contains(expect), "{mood:?}: {said}");
        assert_eq!(kept(&rig), 0, "{mood:?}");
    }
    authority.set(Mood::Right);
    send(&rig).unwrap();
    authority.set(Mood::Again);
    let said = send(&rig).unwrap_err();
    assert!(said.contains("answers another request") || said.contains("another digest"), "{said}");
    assert_eq!(kept(&rig), 1);
    rig.stop_guan();
    rig.check_log();
}
