//! Catalogues over HTTP: read, searched, resolved. For people in a browser and for programs.
//!
//! It listens on this machine only, answers `GET`, reads no body, and keeps no connection for longer than one
//! answer; connections and the time of each have limits. What it serves is what boxes have published.
//!
//! Never here: changes of anything, log-ins, TLS. A proxy before it does those.

pub mod answer;
mod page;

use crate::catalogues::Catalogues;
use bytes::Bytes;
use guan_catalogue::Identifier;
use guan_catalogue::dcat::CONTEXT_FILE;
use guan_catalogue::search::{Limits, Query, search};
use guan_model::BoxId;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at the same time; more wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 16;
/// Answers that are made at the same time: each reads and checks all catalogues.
pub const ANSWERS_MAX: usize = 2;
/// For one question and its answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// All of a request that is read at once.
const REQUEST_BYTES_MAX: usize = 16 << 10;

const JSON: &str = "application/json";
const JSON_LD: &str = "application/ld+json";
const HTML: &str = "text/html; charset=utf-8";

/// What a question is answered with.
#[derive(Debug, PartialEq)]
struct Answer {
    status: StatusCode,
    media: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn json(value: &Value) -> Self {
        Self { status: StatusCode::OK, media: JSON, body: format!("{value:#}\n").into_bytes() }
    }

    fn fault(status: StatusCode, text: &str) -> Self {
        Self { status, ..Self::json(&json!({"error": text})) }
    }
}

/// Serves until it is aborted.
pub async fn serve(listener: TcpListener, catalogues: Catalogues) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let answers = Arc::new(Semaphore::new(ANSWERS_MAX));
    loop {
        let room = connections.clone().acquire_owned().await.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                let (catalogues, answers) = (catalogues.clone(), answers.clone());
                tokio::spawn(async move {
                    let talk = converse(stream, catalogues, answers);
                    // Who goes away early, or says nothing, is no news.
                    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, talk).await;
                    drop(room);
                });
            }
            Err(fault) => {
                tracing::warn!(%fault, "no connection can be taken for the catalogue");
                tokio::time::sleep(HEADER_TIME_MAX).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, catalogues: Catalogues, answers: Arc<Semaphore>) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (catalogues, answers) = (catalogues.clone(), answers.clone());
        async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let _turn = answers.acquire_owned().await.expect("nobody closes it");
            let made = tokio::task::spawn_blocking(move || {
                respond(&catalogues, &method, uri.path(), uri.query().unwrap_or_default())
            });
            let answer = made.await.unwrap_or_else(|fault| {
                tracing::error!(%fault, "a question to the catalogue was not answered");
                let text = "this space has a defect here; its log says which";
                Answer::fault(StatusCode::INTERNAL_SERVER_ERROR, text)
            });
            Ok::<_, Infallible>(response(answer))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX);
    http.keep_alive(false).max_buf_size(REQUEST_BYTES_MAX);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.media));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Reads files.
fn respond(catalogues: &Catalogues, method: &Method, path: &str, query: &str) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        let text = "only GET; boxes publish over their own link";
        return Answer::fault(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => page(catalogues, query),
        ["catalogues"] => Answer::json(&answer::index(&catalogues.all().0)),
        ["catalogues", box_id] => document(catalogues, box_id),
        ["datasets"] => find(catalogues, query),
        ["resolve", identifier] => resolve(catalogues, identifier),
        ["context.jsonld"] => {
            Answer { status: StatusCode::OK, media: JSON_LD, body: CONTEXT_FILE.into() }
        }
        _ => Answer::fault(
            StatusCode::NOT_FOUND,
            "there are /, /catalogues, /catalogues/BOX, /datasets?q=WORDS, /resolve/IDENTIFIER \
             and /context.jsonld",
        ),
    }
}

/// As the box has signed it, so that whoever asks can check it.
fn document(catalogues: &Catalogues, box_id: &str) -> Answer {
    let unknown = || Answer::fault(StatusCode::NOT_FOUND, "no box of this name has a catalogue");
    let Ok(box_id) = BoxId::parse(box_id) else { return unknown() };
    match catalogues.document(&box_id) {
        Ok(Some(body)) => Answer { status: StatusCode::OK, media: JSON_LD, body },
        Ok(None) => unknown(),
        Err(fault) => {
            tracing::warn!(%fault, "a catalogue cannot be served");
            let text = "its catalogue is damaged; the space's operator has been told";
            Answer::fault(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

/// Words and limits, as the form of the page and programs write them. Unknown names are faults.
fn question(query: &str) -> Result<(String, Query), String> {
    let (mut words, mut limits) = (String::new(), Limits::default());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.trim().to_owned();
        let limit = match name.as_ref() {
            "q" => {
                words = value;
                continue;
            }
            "unit" => &mut limits.unit,
            "class" => &mut limits.class,
            "provider" => &mut limits.provider,
            "completeness" => &mut limits.completeness,
            _ => return Err("known are q, unit, class, provider and completeness".to_owned()),
        };
        *limit = Some(value).filter(|value| !value.is_empty());
    }
    let query = Query::new(&words).and_then(|query| query.within(&limits));
    query.map(|query| (words, query)).map_err(|fault| fault.to_string())
}

fn find(catalogues: &Catalogues, query: &str) -> Answer {
    match question(query) {
        Ok((_, query)) => Answer::json(&answer::hits(&search(&catalogues.all().0, &query))),
        Err(text) => Answer::fault(StatusCode::BAD_REQUEST, &text),
    }
}

fn page(catalogues: &Catalogues, query: &str) -> Answer {
    let all = catalogues.all().0;
    let (status, body) = match question(query) {
        Ok((words, query)) => (StatusCode::OK, page::render(&words, &search(&all, &query), None)),
        Err(text) => (StatusCode::BAD_REQUEST, page::render("", &[], Some(&text))),
    };
    Answer { status, media: HTML, body: body.into_bytes() }
}

fn resolve(catalogues: &Catalogues, text: &str) -> Answer {
    // Colons and all that an identifier has may stand in a path as they are, or escaped.
    let text = form_urlencoded::parse(format!("i={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    let identifier = match Identifier::parse(&text) {
        Ok(identifier) => identifier,
        Err(fault) => return Answer::fault(StatusCode::BAD_REQUEST, &fault.to_string()),
    };
    match answer::named(&catalogues.all().0, &identifier) {
        Some((catalogue, named)) => Answer::json(&answer::resolved(catalogue, &named)),
        None => Answer::fault(StatusCode::NOT_FOUND, "it is in no catalogue here"),
    }
}

#[cfg(test)]
mod tests;
