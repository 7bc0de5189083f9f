use super::*;
use crate::catalogues::tests::{NOW, document, key, name};
use guan_model::WallTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Two boxes, of which the second has nothing whole.
fn folder() -> (tempfile::TempDir, Catalogues, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let catalogues = Catalogues::open(folder.path());
    let signed = document("box-1", "box-1", NOW, &key());
    catalogues.accept(WallTime::from_millis(NOW), &name("box-1"), &signed).unwrap();
    let damaged = folder.path().join(crate::catalogues::CATALOGUES_DIR).join("box-2");
    std::fs::create_dir_all(&damaged).unwrap();
    std::fs::write(damaged.join("catalogue.json"), "{").unwrap();
    (folder, catalogues, signed)
}

#[test]
fn questions_and_answers() {
    let (_folder, catalogues, signed) = folder();
    let check = |method: &Method, path: &str, query: &str, status: u16, expect: &str| {
        let answer = respond(&catalogues, method, path, query);
        let body = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status.as_u16(), status, "{path}?{query}: {body}");
        assert!(body.contains(expect), "{path}?{query}: {body}");
    };
    let get = &Method::GET;
    let id = "urn:guankou:dataset:plant-1:box-1:press";
    check(get, "/", "", 200, &format!("href=\"/resolve/{id}\""));
    check(get, "/", "q=nothing", 200, "nothing fits");
    check(get, "/", "unit=furlongs%20per", 400, "no UCUM code");
    check(get, "/catalogues", "", 200, "\"box\": \"box-1\"");
    check(get, "/catalogues/box-1", "", 200, std::str::from_utf8(&signed).unwrap());
    check(get, "/catalogues/box-2", "", 500, "damaged");
    check(get, "/catalogues/box-3", "", 404, "no box of this name");
    check(get, "/catalogues/..", "", 404, "no box of this name");
    check(get, "/datasets", "q=press&unit=Cel&class=general", 200, id);
    check(get, "/datasets", "q=press&unit=m", 200, "\"hits\": []");
    check(get, "/datasets", "q=press&completeness=", 200, id);
    check(get, "/datasets", "completeness=2", 400, "no share");
    check(get, "/datasets", "class=secret", 400, "not general");
    check(get, "/datasets", "colour=red", 400, "known are");
    check(get, "/datasets", &format!("q={}", "a+".repeat(17)), 400, "17 words");
    check(get, &format!("/resolve/{id}"), "", 200, "\"kind\": \"dataset\"");
    check(get, &format!("/resolve/{}", id.replace(':', "%3A")), "", 200, "\"kind\": \"dataset\"");
    check(get, "/resolve/urn:guankou:dataset:plant-1:box-1:mill", "", 404, "no catalogue");
    check(get, "/resolve/what", "", 400, "error");
    check(get, "/context.jsonld", "", 200, "@context");
    check(get, "/catalogues/box-1/more", "", 404, "there are");
    check(&Method::HEAD, "/catalogues", "", 200, "box-1");
    check(&Method::POST, "/catalogues", "", 405, "only GET");
}

async fn served() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>, tempfile::TempDir) {
    let (folder, catalogues, _) = folder();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, catalogues)), folder)
}

/// All that comes until the other end closes.
async fn ask(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_socket() {
    let (address, server, _folder) = served().await;
    let answer = ask(address, "GET /catalogues HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json") && answer.contains("box-1"));
    assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
    let answer = ask(address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET"), "{answer}");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(REQUEST_BYTES_MAX));
    let answer = ask(address, &long).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    server.abort();
}

/// As many as there may be say nothing; who comes then is answered when one of them goes.
#[tokio::test(flavor = "multi_thread")]
async fn connections_have_a_limit() {
    let (address, server, _folder) = served().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        // An answered byte would show that it was taken; half a request shows nothing, and holds its room.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        silent.push(stream);
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    late.write_all(b"GET /catalogues HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let waits = tokio::time::timeout(Duration::from_millis(200), late.read(&mut byte)).await;
    assert!(waits.is_err(), "it waits for room");
    drop(silent.pop());
    late.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"H");
    server.abort();
}
