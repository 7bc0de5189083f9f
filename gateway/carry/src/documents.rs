//! Two documents that the space signs with the key of its contracts: the public key that files are sealed for, and
//! the receipt for what it has stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_identity::{SEAL_KEY_BYTES, seal_key_id};
use guan_link::{LETTER_BYTES_MAX, STREAMS_MAX};
use guan_model::{BatchSeq, BoxId, Digest, Signer, SpoolId, StreamId, WallTime};
use guan_policy::envelope::Envelope;
use guan_policy::fault::{Faults, Problem, shown};
use guan_policy::object::{Member, Object, entries, moment_text};
use guan_policy::{ContractError, TrustedKeys};
use serde_json::{Value, json};

/// Longest public key document.
pub const KEY_BYTES_MAX: usize = 4096;
/// Longest receipt: all streams with the longest numbers, and the longest letter.
pub const RECEIPT_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(STREAMS_MAX * 64 + LETTER_BYTES_MAX / 3 * 4 + 4096 < RECEIPT_BYTES_MAX);

const KEY: Envelope = Envelope {
    domain: b"guan-carry-key/1\n",
    body: "carry_key",
    schema: 1,
    bytes_max: KEY_BYTES_MAX,
};
const RECEIPT: Envelope = Envelope {
    domain: b"guan-carry-receipt/1\n",
    body: "carry_receipt",
    schema: 1,
    bytes_max: RECEIPT_BYTES_MAX,
};

/// Why a document does not count; whoever made or changed it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentFault {
    what: &'static str,
    faults: ContractError,
}

impl std::fmt::Display for DocumentFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} is refused", self.what)?;
        self.faults.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// The public key of a space for files on a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarryKey {
    pub space: BoxId,
    /// X25519.
    pub public: [u8; SEAL_KEY_BYTES],
    pub issued: WallTime,
}

impl CarryKey {
    pub fn id(&self) -> Digest {
        seal_key_id(&self.public)
    }

    pub fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>, DocumentFault> {
        let body = json!({
            "space": self.space.as_str(), "x25519": hex::encode(self.public),
            "issued": moment_text(self.issued),
        });
        sealed("key", &KEY, &body, &self.space, signer)
    }

    /// Reads a key that the space which it names must have signed.
    pub fn parse(bytes: &[u8], keys: &TrustedKeys) -> Result<Self, DocumentFault> {
        opened("key", &KEY, bytes, keys, |body, faults| {
            let body = Object::open(body, "/carry_key", &["space", "x25519", "issued"], faults)?;
            let space = body.name("space", BoxId::parse, faults);
            let public = hex_of::<SEAL_KEY_BYTES>(&body, "x25519", faults);
            let issued = body.time("issued", faults);
            let key = Self { space: space?, public: public?, issued: issued? };
            Some((key.space.clone(), key))
        })
    }
}

/// What the space has, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub space: BoxId,
    pub box_id: BoxId,
    pub spool: SpoolId,
    /// [`crate::End::digest`] of the file that was taken.
    pub file: Digest,
    /// Through where the space has each stream, ascending, each once, by whatever way it came.
    pub streams: Vec<(StreamId, BatchSeq)>,
    pub issued: WallTime,
    /// What the space's log says of it, as in a letter on `Topic::Received`; empty where it says nothing new.
    pub received: Vec<u8>,
}

impl Receipt {
    pub fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>, DocumentFault> {
        let streams = self
            .streams
            .iter()
            .map(|(stream, through)| json!({"stream": stream.0, "through": through.0}));
        let body = json!({
            "space": self.space.as_str(), "box": self.box_id.as_str(),
            "spool": hex::encode(self.spool.0), "file": self.file.to_string(),
            "streams": streams.collect::<Vec<_>>(), "issued": moment_text(self.issued),
            "received": STANDARD.encode(&self.received),
        });
        sealed("receipt", &RECEIPT, &body, &self.space, signer)
    }

    /// Reads a receipt that the space which it names must have signed.
    pub fn parse(bytes: &[u8], keys: &TrustedKeys) -> Result<Self, DocumentFault> {
        const KEYS: [&str; 7] = ["space", "box", "spool", "file", "streams", "issued", "received"];
        opened("receipt", &RECEIPT, bytes, keys, |body, faults| {
            let body = Object::open(body, "/carry_receipt", &KEYS, faults)?;
            let space = body.name("space", BoxId::parse, faults);
            let box_id = body.name("box", BoxId::parse, faults);
            let spool = hex_of::<16>(&body, "spool", faults).map(SpoolId);
            let file = hex_of::<32>(&body, "file", faults).map(Digest);
            let issued = body.time("issued", faults);
            let streams = streams(&body, faults);
            let received = letter(&body, "received", faults);
            let (space, box_id, spool) = (space?, box_id?, spool?);
            let (file, issued, received) = (file?, issued?, received?);
            let receipt = Self { space, box_id, spool, file, streams, issued, received };
            Some((receipt.space.clone(), receipt))
        })
    }
}

fn streams(body: &Object<'_>, faults: &mut Faults) -> Vec<(StreamId, BatchSeq)> {
    let Some(list) = body.member("streams") else { return Vec::new() };
    let mut streams: Vec<(StreamId, BatchSeq)> = Vec::new();
    for (at, value) in entries(list.value, &list.pointer, STREAMS_MAX, faults) {
        let Some(entry) = Object::open(value, &at, &["stream", "through"], faults) else {
            continue;
        };
        let mut number =
            |key| entry.member(key).and_then(|member: Member<'_>| member.whole(faults));
        let (Some(stream), Some(through)) = (number("stream"), number("through")) else { continue };
        let Ok(stream) = u16::try_from(stream) else {
            let limit = u64::from(u16::MAX);
            faults.add(&entry.at("stream"), Problem::Limit { found: stream, limit });
            continue;
        };
        let stream = StreamId(stream);
        if streams.last().is_some_and(|(last, _)| *last >= stream) {
            let detail = "streams stand ascending, each once".to_owned();
            faults.add(&at, Problem::Name { detail });
        }
        streams.push((stream, BatchSeq(through)));
    }
    streams
}

fn letter(body: &Object<'_>, key: &str, faults: &mut Faults) -> Option<Vec<u8>> {
    let text = body.text(key, faults)?;
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= LETTER_BYTES_MAX);
    if bytes.is_none() {
        let detail = format!("it is not base64 of at most {LETTER_BYTES_MAX} bytes");
        faults.add(&body.at(key), Problem::Name { detail });
    }
    bytes
}

fn hex_of<const N: usize>(object: &Object<'_>, key: &str, faults: &mut Faults) -> Option<[u8; N]> {
    let text = object.text(key, faults)?;
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let bytes = hex::decode(text).ok().filter(|_| is_lower).and_then(|bytes| bytes.try_into().ok());
    if bytes.is_none() {
        let detail = format!("{:?} is not {} lower-case hex digits", shown(text), 2 * N);
        faults.add(&object.at(key), Problem::Name { detail });
    }
    bytes
}

fn sealed(
    what: &'static str,
    form: &Envelope,
    body: &Value,
    space: &BoxId,
    signer: &dyn Signer,
) -> Result<Vec<u8>, DocumentFault> {
    form.seal(body, space.as_str(), signer).map_err(|faults| DocumentFault { what, faults })
}

fn opened<T>(
    what: &'static str,
    form: &Envelope,
    bytes: &[u8],
    keys: &TrustedKeys,
    read: impl FnOnce(&Value, &mut Faults) -> Option<(BoxId, T)>,
) -> Result<T, DocumentFault> {
    let mut faults = Faults::default();
    let document = form.open(bytes, &mut faults).and_then(|document| {
        let (space, value) = read(&document.body, &mut faults)?;
        document.check(space.as_str(), keys, &mut faults);
        Some(value)
    });
    faults.finish(document).map_err(|faults| DocumentFault { what, faults })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_identity::LogKeyFile;

    fn space() -> BoxId {
        BoxId::parse("space-1").unwrap()
    }

    fn keys(signer: &LogKeyFile) -> TrustedKeys {
        TrustedKeys::new(vec![("space-1".to_owned(), signer.public_key())]).unwrap()
    }

    fn receipt(count: u16) -> Receipt {
        Receipt {
            space: space(),
            box_id: BoxId::parse("box-1").unwrap(),
            spool: SpoolId([7; 16]),
            file: Digest([8; 32]),
            streams: (0..count).map(|stream| (StreamId(stream), BatchSeq((1 << 53) - 1))).collect(),
            issued: WallTime::from_seconds(1_800_000_000),
            received: vec![7; 100],
        }
    }

    #[test]
    fn documents_are_read_as_they_were_signed_and_else_refused() {
        let (signer, _) = LogKeyFile::generate("space-1").unwrap();
        let keys = keys(&signer);
        let issued = WallTime::from_seconds(1_800_000_000);
        let key = CarryKey { space: space(), public: [9; 32], issued };
        let file = key.sign(&signer).unwrap();
        assert_eq!(CarryKey::parse(&file, &keys).unwrap(), key);
        let said = receipt(3);
        let told = said.sign(&signer).unwrap();
        assert_eq!(Receipt::parse(&told, &keys).unwrap(), said);
        let refused = |bytes: &[u8], expect: &str| {
            let text = Receipt::parse(bytes, &keys).unwrap_err().to_string();
            assert!(text.contains("the receipt is refused") && text.contains(expect), "{text}");
        };
        let text = String::from_utf8(told.clone()).unwrap();
        refused(text.replace("box-1", "box-2").as_bytes(), "altered after signing");
        refused(text.replace("\"stream\":2", "\"stream\":1").as_bytes(), "ascending");
        refused(text.replace("0707", "0A07").as_bytes(), "hex digits");
        refused(text.replace("\"stream\":2", "\"stream\":65536").as_bytes(), "65535");
        // A signature of one kind counts for no other.
        refused(&file, "unknown key");
        let (other, _) = LogKeyFile::generate("space-1").unwrap();
        refused(&said.sign(&other).unwrap(), "space-1");
        let text = CarryKey::parse(&told, &keys).unwrap_err().to_string();
        assert!(text.contains("the key is refused"), "{text}");
    }

    #[test]
    fn the_limits_are_exact() {
        let (signer, _) = LogKeyFile::generate("space-1").unwrap();
        let keys = keys(&signer);
        let most = u16::try_from(STREAMS_MAX).unwrap();
        let told = receipt(most).sign(&signer).unwrap();
        assert_eq!(Receipt::parse(&told, &keys).unwrap().streams.len(), STREAMS_MAX);
        let told = receipt(most + 1).sign(&signer).unwrap();
        assert!(Receipt::parse(&told, &keys).unwrap_err().to_string().contains("1024"));
        let with = |length: usize| Receipt { received: vec![7; length], ..receipt(most) };
        let told = with(LETTER_BYTES_MAX).sign(&signer).unwrap();
        assert_eq!(Receipt::parse(&told, &keys).unwrap(), with(LETTER_BYTES_MAX));
        let told = with(LETTER_BYTES_MAX + 1).sign(&signer).unwrap();
        assert!(Receipt::parse(&told, &keys).unwrap_err().to_string().contains("393216"));
        let padded = |length: usize| {
            let told = receipt(1).sign(&signer).unwrap();
            let padding = vec![b' '; length - told.len()];
            Receipt::parse(&[told, padding].concat(), &keys).is_ok()
        };
        assert!(padded(RECEIPT_BYTES_MAX) && !padded(RECEIPT_BYTES_MAX + 1));
    }
}
