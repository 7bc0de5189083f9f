//! Whatever a server does, there is an answer that counts or a fault, in bounded time and bytes.

use super::*;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream as StdStream};
use std::thread;

/// A server of one connection, which reads a whole request first.
fn serve(answer: impl FnOnce(&mut StdStream, &[u8]) + Send + 'static) -> AuthorityUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/tsr", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        // A query has 69 bytes.
        while !read.windows(4).any(|four| four == b"\r\n\r\n") || !ends(&read) {
            let mut some = [0; 1024];
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "the request ends early");
            read.extend_from_slice(&some[..count]);
        }
        answer(&mut stream, &read);
    });
    AuthorityUrl::parse(&url).unwrap()
}

fn ends(read: &[u8]) -> bool {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(read.len());
    read.len() >= head + 4 + 69
}

fn ask(url: AuthorityUrl) -> (Result<Stamped, AskFault>, u64) {
    let client = AuthorityClient { url, tls: None, authority: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bytes = Arc::new(AtomicU64::new(0));
    let asked = runtime.block_on(client.ask(&Digest([7; 32]), &bytes));
    (asked, bytes.load(Ordering::Relaxed))
}

fn said(fault: &AskFault) -> String {
    guan_link::driver::describe(fault)
}

fn head(status: &str, media: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n")
}

fn check(answer: impl FnOnce(&mut StdStream, &[u8]) + Send + 'static, expect: &str) {
    let (asked, bytes) = ask(serve(answer));
    let found = said(&asked.unwrap_err());
    assert!(found.contains(expect), "{found}\nis not\n{expect}");
    // What was read at once beyond the limit is counted, too.
    assert!((150..=ASK_BYTES_MAX + (32 << 10)).contains(&bytes), "{expect}: {bytes}");
}

#[test]
fn a_request_is_what_the_standard_wants() {
    check(
        |stream, read| {
            let text = String::from_utf8_lossy(read);
            for part in [
                "POST /tsr HTTP/1.1\r\n",
                "content-type: application/timestamp-query\r\n",
                "content-length: 69\r\n",
                "host: 127.0.0.1:",
            ] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            // PKIStatusInfo with the status `rejection`: the form is right and the answer is no.
            let refused = [0x30, 5, 0x30, 3, 2, 1, 2];
            let media = "Application/Timestamp-Reply; x=y";
            stream.write_all(head("200 OK", media, refused.len()).as_bytes()).unwrap();
            stream.write_all(&refused).unwrap();
        },
        "the authority refused: status 2",
    );
}

#[test]
fn bad_answers_are_told_apart() {
    let put = |text: String| {
        move |stream: &mut StdStream, _: &[u8]| stream.write_all(text.as_bytes()).unwrap()
    };
    check(put(head("500 Internal Server Error", REPLY, 0)), "answers with status 500");
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    check(put(moved.to_owned()), "status 302; a redirect is not followed");
    check(put(head("200 OK", "text/html", 2) + "no"), "sends text/html in place of");
    let bad = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n", "\u{e9}".repeat(200));
    check(put(bad), "sends \\u{e9}");
    check(
        put("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        "sends nothing in place of",
    );
    check(put(head("200 OK", REPLY, 0)), "no sequence");
    check(put(head("200 OK", REPLY, 9) + "cut"), "it went away");
    check(put("SSH-2.0-x\r\n".to_owned()), "does not speak HTTP");
    check(|_, _| {}, "it went away");
}

#[test]
fn bodies_have_a_limit() {
    let body = |length: usize| {
        move |stream: &mut StdStream, _: &[u8]| {
            stream.write_all(head("200 OK", REPLY, length).as_bytes()).unwrap();
            // The other side may have gone.
            let _ = stream.write_all(&vec![0; length]);
        }
    };
    check(body(TOKEN_BYTES_MAX), "no answer of a time stamp authority");
    check(body(TOKEN_BYTES_MAX + 1), "more than 65536 bytes");
    // Nobody says how long it is, and it has no end.
    let endless = |stream: &mut StdStream, _: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {REPLY}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        while stream.write_all(&[0; 4096]).is_ok() {}
    };
    check(endless, "more than 65536 bytes");
    let headers = |stream: &mut StdStream, _: &[u8]| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        while stream
            .write_all(b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n")
            .is_ok()
        {}
    };
    check(headers, "it went away, sent more than");
    // Hints of HTTP that go on for ever.
    let hints = |stream: &mut StdStream, _: &[u8]| {
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n").is_ok() {}
    };
    check(hints, "it went away, sent more than");
}

/// Time does not pass by itself here: whatever is silent is given up exactly at the limit.
#[test]
fn silence_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = AuthorityUrl::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let client = AuthorityClient { url, tls: None, authority: None };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let bytes = Arc::default();
    let started = runtime.block_on(async { tokio::time::Instant::now() });
    let fault = runtime.block_on(client.ask(&Digest([7; 32]), &bytes)).unwrap_err();
    assert!(matches!(fault, AskFault::Silence), "{fault:?}");
    assert_eq!(runtime.block_on(async { started.elapsed() }).as_secs(), ASK_TIME_MAX.as_secs());
}

#[test]
fn nobody_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = AuthorityUrl::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let (asked, bytes) = ask(url);
    assert!(said(&asked.unwrap_err()).contains("cannot be reached"));
    assert_eq!(bytes, 0);
}

#[test]
fn files_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pem");
    let base = "schema = 1\n[box]\nid = \"b\"\nstate_dir = \"s\"\n[identity]\ntier = \"unattested\"\n[link]\n\
                space = \"localhost:4433\"\n[evidence]\n";
    let keys = "timestamp_url = \"https://localhost/\"\ntimestamp_ca_file = \"x.pem\"\n";
    let build = |more: &str| {
        let text = format!("{base}{keys}{more}");
        let config = guan_configs::EdgeConfig::parse(&text, "edge.toml", folder.path()).unwrap();
        let timestamps = config.evidence.timestamps.unwrap();
        said(&AuthorityClient::new(&timestamps, WallTime::from_seconds(1_800_000_000)).unwrap_err())
    };
    assert!(build("").contains("x.pem cannot be read"));
    std::fs::write(&path, "nothing").unwrap();
    assert!(build("").contains("x.pem is no file of certificates"), "{}", build(""));
    let found = build("timestamp_authority_file = \"x.pem\"\n");
    assert!(found.contains("x.pem is not the certificate of an authority"), "{found}");
}
