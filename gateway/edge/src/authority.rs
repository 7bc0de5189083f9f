//! Asks an authority of time stamps (RFC 3161) over HTTP, and judges what it answers.
//!
//! One request a connection, one deadline over all of it, and a limit to its bytes in both directions: whoever answers
//! is not trusted. Redirects are not followed; nobody but the host that the configuration names is asked. An answer
//! is given back only if it is about the digest, answers this very request, and, where the authority's certificate is
//! known, holds by that.
//!
//! Never here: when to ask, where answers are kept.

use bytes::Bytes;
use guan_configs::edge::{AuthorityUrl, TimestampConfig};
use guan_evidence::timestamp::{
    Authority, CERTIFICATE_BYTES_MAX, TOKEN_BYTES_MAX, TimestampFault, Token, request,
};
use guan_identity::{CertFault, TimeCell, TlsFault, foreign_client_config, read_certificates};
use guan_model::{Digest, WallTime};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::ServerName;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const QUERY: &str = "application/timestamp-query";
const REPLY: &str = "application/timestamp-reply";
/// From the first look at the name to the last byte.
pub const ASK_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of one exchange, both ways, TLS and headers included: an answer of the longest kind and 32 KiB more.
pub const ASK_BYTES_MAX: u64 = TOKEN_BYTES_MAX as u64 + (32 << 10);
/// All that is read of headers.
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Of what a server says about itself, in a fault.
const SHOWN_MAX: usize = 64;
/// Certificates by which a server is known.
const CA_BYTES_MAX: usize = 1 << 20;

/// Why there is no time stamp. Nothing waits for one.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    #[error("{} cannot be read", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is not the certificate of an authority", path.display())]
    Authority { path: PathBuf, source: TimestampFault },
    #[error("{} is no file of certificates", path.display())]
    Certificates { path: PathBuf, source: CertFault },
    #[error("{} holds no certificates by which a server can be known", path.display())]
    Roots { path: PathBuf, source: TlsFault },
    #[error("the system gives no random numbers")]
    Random,
    #[error("{host} cannot be reached")]
    Connect { host: String, source: io::Error },
    #[error(
        "whoever answers at {host} does not prove to be it by the certificates in timestamp_ca_file, and was asked \
         nothing"
    )]
    Stranger { host: String, source: io::Error },
    #[error("it has not answered within {} s", ASK_TIME_MAX.as_secs())]
    Silence,
    #[error("it went away, sent more than {ASK_BYTES_MAX} bytes, or does not speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("it answers with status {status}; a redirect is not followed")]
    Status { status: u16 },
    #[error("it sends {found} in place of {REPLY}")]
    Media { found: String },
    #[error("its answer has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("its answer is none that counts")]
    Answer(#[from] TimestampFault),
}

/// An authority that is asked.
#[derive(Debug)]
pub struct AuthorityClient {
    url: AuthorityUrl,
    /// Of `https://`.
    tls: Option<Arc<rustls::ClientConfig>>,
    /// By which answers must hold, if it is known.
    authority: Option<Authority>,
}

/// An answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    pub answer: Vec<u8>,
    /// By the authority's clock, seconds since 1970.
    pub seconds: i64,
    /// It holds by the authority's certificate.
    pub is_checked: bool,
}

fn read(path: &Path, bytes_max: usize) -> Result<String, AskFault> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(bytes_max as u64).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| AskFault::File { path: path.to_owned(), source })
}

/// The authority by which answers must hold, if the configuration names its certificate.
pub fn authority_of(config: &TimestampConfig) -> Result<Option<Authority>, AskFault> {
    let authority = config.authority_file.as_deref().map(|path| {
        let fault = |source| AskFault::Authority { path: path.to_owned(), source };
        // In PEM, with room for the text that tools put before it.
        Authority::from_pem(&read(path, CERTIFICATE_BYTES_MAX * 4)?).map_err(fault)
    });
    authority.transpose()
}

impl AuthorityClient {
    /// Reads the certificates that the configuration names; `now` judges those of the server.
    pub fn new(config: &TimestampConfig, now: WallTime) -> Result<Self, AskFault> {
        let authority = authority_of(config)?;
        let tls = config.ca_file.as_deref().filter(|_| config.url.is_tls).map(|path| {
            let fault = |source| AskFault::Certificates { path: path.to_owned(), source };
            let roots = read_certificates(&read(path, CA_BYTES_MAX)?).map_err(fault)?;
            let made = foreign_client_config(roots, Arc::new(TimeCell::new(now)));
            made.map_err(|source| AskFault::Roots { path: path.to_owned(), source })
        });
        let tls = tls.transpose()?.map(Arc::new);
        Ok(Self { url: config.url.clone(), tls, authority })
    }

    /// Asks for a time stamp over a digest. `bytes` grows by what went over the line, whatever comes of it.
    pub async fn ask(&self, digest: &Digest, bytes: &Arc<AtomicU64>) -> Result<Stamped, AskFault> {
        let mut nonce = [0; 8];
        SystemRandom::new().fill(&mut nonce).map_err(|_| AskFault::Random)?;
        let asked = self.connect_and_ask(request(digest, nonce), bytes);
        let answer = tokio::time::timeout(ASK_TIME_MAX, asked).await;
        let answer = answer.map_err(|_| AskFault::Silence)??;
        let token = Token::parse(&answer)?;
        token.check_request(digest, nonce)?;
        if let Some(authority) = &self.authority {
            token.verify(digest, authority)?;
        }
        let (seconds, is_checked) = (token.seconds, self.authority.is_some());
        Ok(Stamped { answer, seconds, is_checked })
    }

    async fn connect_and_ask(
        &self,
        query: Vec<u8>,
        bytes: &Arc<AtomicU64>,
    ) -> Result<Vec<u8>, AskFault> {
        let host = self.url.authority();
        let fault = |source| AskFault::Connect { host: host.clone(), source };
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await;
        let stream = Counted { inner: stream.map_err(fault)?, bytes: bytes.clone(), used: 0 };
        let Some(tls) = &self.tls else { return self.exchange(stream, query).await };
        let name = ServerName::try_from(self.url.host.clone())
            .map_err(|bad| fault(io::Error::new(io::ErrorKind::InvalidInput, bad)))?;
        let stranger = |source| AskFault::Stranger { host: host.clone(), source };
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(stranger)?;
        self.exchange(stream, query).await
    }

    async fn exchange<S>(&self, stream: S, query: Vec<u8>) -> Result<Vec<u8>, AskFault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.max_buf_size(HEADER_BYTES_MAX).max_headers(HEADERS_MAX);
        let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await?;
        // Ends with this function, wherever that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::post(&self.url.path)
            .header(HOST, self.url.authority())
            .header(CONTENT_TYPE, QUERY)
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(query)))
            .expect("the configuration takes only what may stand in a request");
        let response = sender.send_request(request).await?;
        check_head(&response)?;
        if response.body().size_hint().lower() > TOKEN_BYTES_MAX as u64 {
            return Err(AskFault::TooLong);
        }
        let body = Limited::new(response.into_body(), TOKEN_BYTES_MAX).collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(fault) if fault.is::<LengthLimitError>() => Err(AskFault::TooLong),
            Err(fault) => match fault.downcast::<hyper::Error>() {
                Ok(fault) => Err(AskFault::Http(*fault)),
                Err(_) => Err(AskFault::TooLong),
            },
        }
    }
}

fn check_head<B>(response: &Response<B>) -> Result<(), AskFault> {
    if response.status() != StatusCode::OK {
        return Err(AskFault::Status { status: response.status().as_u16() });
    }
    let media =
        response.headers().get(CONTENT_TYPE).map_or(&b"nothing"[..], |text| text.as_bytes());
    let media = String::from_utf8_lossy(media);
    let (kind, _) = media.split_once(';').unwrap_or((&media, ""));
    if kind.trim().eq_ignore_ascii_case(REPLY) {
        return Ok(());
    }
    let found = media.chars().flat_map(char::escape_default).take(SHOWN_MAX).collect();
    Err(AskFault::Media { found })
}

/// Counts what goes over the line, and ends where one exchange has had its bytes.
struct Counted<S> {
    inner: S,
    bytes: Arc<AtomicU64>,
    used: u64,
}

impl<S> Counted<S> {
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.used = self.used.saturating_add(bytes as u64);
        match self.used > ASK_BYTES_MAX {
            true => Err(io::Error::other("more bytes than one time stamp may take")),
            false => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        Poll::Ready(this.count(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(context, bytes))?;
        Poll::Ready(this.count(written).map(|()| written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
