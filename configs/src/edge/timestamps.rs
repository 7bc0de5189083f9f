//! Where time stamps over the log come from (RFC 3161 over HTTP).

use super::parse_host_port;
use crate::schema::{Kind, Node};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const URL_BYTES_MAX: usize = 512;

/// An authority of time stamps, and how often it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimestampConfig {
    pub url: AuthorityUrl,
    pub interval: Duration,
    /// Its certificate; without one its answers are kept unchecked.
    pub authority_file: Option<PathBuf>,
    /// By which its HTTPS server is known; there for every `https://`.
    pub ca_file: Option<PathBuf>,
}

/// `http://` or `https://`, without user and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorityUrl {
    pub is_tls: bool,
    /// Of an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// Begins with a slash; with the query, if there is one.
    pub path: String,
}

impl AuthorityUrl {
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        // What may stand in the target of a request without being quoted.
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/?&=+-._~%:@!$'()*,;[]".contains(&byte));
        if text.len() > URL_BYTES_MAX || !is_plain {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let authority = match (has_port, is_tls) {
            (true, _) => authority.to_owned(),
            (false, false) => format!("{authority}:80"),
            (false, true) => format!("{authority}:443"),
        };
        let (host, port) = parse_host_port(&authority).ok()?;
        let is_bracketed = path.contains(['[', ']']);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        (!is_bracketed).then_some(Self { is_tls, host, port, path })
    }

    /// Host and port as a request names them: the usual port is left out.
    pub fn authority(&self) -> String {
        let usual = if self.is_tls { 443 } else { 80 };
        let port = if self.port == usual { String::new() } else { format!(":{}", self.port) };
        match self.host.contains(':') {
            true => format!("[{}]{port}", self.host),
            false => format!("{}{port}", self.host),
        }
    }
}

impl fmt::Display for AuthorityUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Keys of the table `evidence`.
pub(super) fn read_timestamps(node: &Node<'_>) -> Option<TimestampConfig> {
    let kind = Kind {
        name: "url",
        accepted: "http:// or https://, a host, and maybe port and path, at most 512 characters",
    };
    let about = "Authority of time stamps (RFC 3161) that is asked over HTTP for a stamp over the log's head. Not \
                 set: nobody is asked.";
    let url = node.optional_text("timestamp_url", about, &kind, |text| {
        AuthorityUrl::parse(text).ok_or_else(|| format!("must be {}", kind.accepted))
    });
    let about = "Hours from one time stamp to the next, while the log grows.";
    let hours = node.integer("timestamp_interval_h", about, 1..=8760, Some(24));
    let about = "Certificate of the authority in PEM: only answers that hold by it are kept. Not set: whoever reads a \
                 bundle checks them.";
    let authority_file = node.optional_path("timestamp_authority_file", about);
    let about = "Certificates in PEM by which the authority's https:// server is known; nobody else's count.";
    let ca_file = node.optional_path("timestamp_ca_file", about);
    let url = url?;
    if url.is_tls && ca_file.is_none() {
        node.fault(
            "timestamp_url",
            "is https://: name the certificates that its server is known by in timestamp_ca_file",
        );
    }
    let interval = Duration::from_secs(hours * 3600);
    Some(TimestampConfig { url, interval, authority_file, ca_file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_refused() {
        let check = |text: &str, expect: Option<(bool, &str, u16, &str)>| {
            let url = AuthorityUrl::parse(text);
            let found = url.as_ref();
            let found = found.map(|url| (url.is_tls, &*url.host, url.port, &*url.path));
            assert_eq!(found, expect, "{text}");
            if let Some(url) = url {
                assert_eq!(AuthorityUrl::parse(&url.to_string()), Some(url), "{text}");
            }
        };
        check("http://tsa.example.org", Some((false, "tsa.example.org", 80, "/")));
        check("https://tsa.example.org/tsr", Some((true, "tsa.example.org", 443, "/tsr")));
        check("http://10.0.0.7:8080/a/b?c=d", Some((false, "10.0.0.7", 8080, "/a/b?c=d")));
        check("http://tsa?policy=1", Some((false, "tsa", 80, "/?policy=1")));
        check("http://[2001:db8::1]/tsr", Some((false, "2001:db8::1", 80, "/tsr")));
        check("https://[::1]:8443", Some((true, "::1", 8443, "/")));
        for text in [
            "",
            "tsa.example.org",
            "ftp://tsa",
            "http://",
            "http:///tsr",
            "http://a:0/",
            "http://a:b/",
            "http://user@a/",
            "http://a/#b",
            "http://a b/",
            "http://a/\r\nX: y",
            "HTTP://a/",
        ] {
            check(text, None);
        }
        let longest = format!("http://a/{}", "x".repeat(URL_BYTES_MAX - 9));
        assert!(AuthorityUrl::parse(&longest).is_some());
        assert!(AuthorityUrl::parse(&format!("{longest}x")).is_none());
    }
}
