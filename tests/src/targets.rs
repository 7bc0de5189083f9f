//! One function for each decoder that strangers feed. Each must return, whatever the bytes are, in bounded
//! memory; what decodes must survive being encoded again. The result says whether anything was decoded.

use guan_catalogue::search::{Query, search};
use guan_catalogue::{Catalogue, dcat};

mod carried;
mod policy;

pub use carried::{carried, plain_file};
use guan_configs::{EdgeConfig, SpaceConfig};
use guan_edge::decode::{
    Decoder, Encoding, FieldSpec, FormatSpec, MappingSpec, TimeFormat, TimeSpec, Undecodable,
};
use guan_identity::join::{JoinAnswer, JoinRequest, JoinSecret, UpkeepAnswer, UpkeepAsk};
use guan_identity::{LogKeyFile, attest};
use guan_link::frame::Pipe;
use guan_link::mux::Mux;
use guan_link::wire::Wire;
use guan_link::{
    BoxFrame, BoxNote, FrameDecoder, Hello, Item, Offer, RECEIVE_WINDOW_BYTES, Receiver,
    ReceiverEvent, SpaceFrame, SpaceNote, StreamRange, VERSIONS,
};
use guan_model::{
    BatchSeq, Class, ClockQuality, DatasetId, DescriptorTable, Digest, PointDescriptor, PointId,
    PointName, SpoolId, StreamId, Unit, ValueType, WallTime,
};
use guan_model::{PublicKey, Signer};
use guan_policy::envelope::Envelope;
pub use policy::{Space, carrier, contract, draft, mandate, message, record, roster, terms, usage};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// A decoder with its name, which is also the folder of its corpus.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const ALL: [Target; 25] = [
    Target { name: "frame", run: frame },
    Target { name: "batch", run: batch },
    Target { name: "chain", run: chain },
    Target { name: "mux", run: mux },
    Target { name: "table", run: table },
    Target { name: "carried", run: carried },
    Target { name: "contract", run: contract },
    Target { name: "draft", run: draft },
    Target { name: "catalogue", run: catalogue },
    Target { name: "config", run: config },
    Target { name: "mqtt", run: mqtt },
    Target { name: "log", run: log },
    Target { name: "proof", run: proof },
    Target { name: "payload", run: payload },
    Target { name: "boot_log", run: boot_log },
    Target { name: "ima_list", run: ima_list },
    Target { name: "tpm", run: tpm },
    Target { name: "evidence", run: evidence },
    Target { name: "terms", run: terms },
    Target { name: "usage", run: usage },
    Target { name: "roster", run: roster },
    Target { name: "carrier", run: carrier },
    Target { name: "message", run: message },
    Target { name: "record", run: record },
    Target { name: "mandate", run: mandate },
];

/// Catalogues, as they came and with a signature that holds, so that all of the reader is reached.
pub fn catalogue(data: &[u8]) -> bool {
    let signed = resigned(data);
    let documents = [Some(data), signed.as_deref()];
    let read = documents.into_iter().flatten().filter_map(|bytes| dcat::read(bytes).ok());
    read.map(|catalogue| check_catalogue(&catalogue)).count() > 0
}

fn catalogue_key() -> &'static LogKeyFile {
    static KEY: OnceLock<LogKeyFile> = OnceLock::new();
    KEY.get_or_init(|| LogKeyFile::generate("catalogue").expect("there are random numbers").0)
}

fn resigned(data: &[u8]) -> Option<Vec<u8>> {
    let file: serde_json::Value = serde_json::from_slice(data).ok()?;
    let mut body = file.get("catalogue")?.clone();
    let PublicKey::Ed25519(key) = catalogue_key().public_key() else { return None };
    *body.get_mut("key")?.get_mut("public")? = hex::encode(key).into();
    let envelope = Envelope {
        domain: b"guan-catalogue/1\n",
        body: "catalogue",
        schema: 1,
        bytes_max: guan_catalogue::catalogue::CATALOGUE_BYTES_MAX,
    };
    let party = body.get("box")?.as_str()?.to_owned();
    envelope.seal(&body, &party, catalogue_key()).ok()
}

fn check_catalogue(catalogue: &Catalogue) {
    let hits = search([catalogue], &Query::new("").expect("no words are few"));
    assert_eq!(hits.len(), catalogue.datasets.len());
    for dataset in &catalogue.datasets {
        assert!(catalogue.resolve(&dataset.id).is_some(), "{} does not resolve", dataset.id);
        let highest = dataset.points.iter().map(|point| point.class).max();
        assert!(highest <= Some(dataset.class), "{} is below its points", dataset.id);
    }
}

/// Frames of the link, of all four directions.
pub fn frame(data: &[u8]) -> bool {
    fn read<F: Wire>(data: &[u8]) -> bool {
        let mut decoder = FrameDecoder::<F>::new();
        let mut any = false;
        for piece in data.chunks(61) {
            decoder.handle_bytes(piece);
            while let Ok(Some(frame)) = decoder.poll() {
                any = true;
                let again = guan_link::wire::encode(&frame).concat();
                assert!(again.len() <= data.len() + 16, "a frame grew");
            }
        }
        any
    }
    read::<BoxFrame>(data)
        | read::<SpaceFrame>(data)
        | read::<BoxNote>(data)
        | read::<SpaceNote>(data)
}

/// Encoded batches.
pub fn batch(data: &[u8]) -> bool {
    let Ok(decoded) = guan_codec::decode(data) else { return false };
    let again = guan_codec::encode(&decoded.batch);
    let twice = guan_codec::decode(&again.bytes).expect("what was just encoded");
    assert_eq!(twice.digest, again.digest, "an encoded batch has the digest that it announces");
    assert_eq!(twice.batch.rows(), decoded.batch.rows());
    true
}

/// What a box says on its data stream once it is welcomed: batches in a chain above all.
pub fn chain(data: &[u8]) -> bool {
    let now = Duration::ZERO;
    let range =
        StreamRange { id: StreamId(1), oldest_unreleased: BatchSeq(1), newest: BatchSeq(9) };
    let offer = Offer::new(SpoolId([7; 16]), vec![range]).expect("one stream");
    let mut receiver = Receiver::new(now, VERSIONS);
    let hello = BoxFrame::Hello(Hello { versions: VERSIONS, offer });
    receiver.handle_piped(Pipe::Data, hello).expect("the first frame is the hello");
    receiver.handle_cursors(&[]);
    let (mut decoder, mut any) = (FrameDecoder::<BoxFrame>::new(), false);
    decoder.handle_bytes(data);
    while let Ok(Some(frame)) = decoder.poll() {
        let is_chained = matches!(frame, BoxFrame::Chained(..));
        if receiver.handle_piped(Pipe::Data, frame).is_err() {
            break;
        }
        while let Some(event) = receiver.poll_event() {
            if let ReceiverEvent::Store(_, Item::Batch(batch)) = event
                && is_chained
            {
                let plain = guan_codec::plain(&batch.bytes).expect("it was rebuilt");
                assert_eq!(Digest::of(&plain), batch.digest, "a rebuilt batch has its digest");
                any = true;
            }
        }
        assert!(receiver.unstored_bytes() <= RECEIVE_WINDOW_BYTES, "more than the credit");
    }
    any
}

/// What comes out of TLS where the link goes over TCP.
pub fn mux(data: &[u8]) -> bool {
    let mut mux = Mux::new(Duration::ZERO, Duration::from_secs(15), Duration::from_secs(30));
    let mut any = false;
    for piece in data.chunks(61) {
        if mux.handle_bytes(Duration::ZERO, piece).is_err() {
            break;
        }
        while mux.poll_begun().is_some() {
            any = true;
        }
        for stream in 0..guan_link::mux::STREAMS {
            let _ = mux.take(stream, 7);
        }
        while mux.poll_bytes(Duration::ZERO).is_some() {}
    }
    any | mux.closed().is_some()
}

/// Announced descriptor tables.
pub fn table(data: &[u8]) -> bool {
    let Ok(table) = guan_codec::unpack_table(data) else { return false };
    let again = guan_codec::unpack_table(&guan_codec::pack_table(&table));
    assert_eq!(again.expect("what was just packed").digest(), table.digest());
    true
}

/// Configuration files of both programs.
pub fn config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let edge = EdgeConfig::parse(text, "fuzz.toml", Path::new("/"));
    if let Ok(config) = &edge {
        let again = EdgeConfig::parse(&config.to_toml(), "again.toml", Path::new("/"));
        let again = again.expect("the effective configuration is one");
        assert_eq!(again.descriptors.digest(), config.descriptors.digest());
    }
    edge.is_ok() | SpaceConfig::parse(text, "fuzz.toml", Path::new("/")).is_ok()
}

/// Bytes from an MQTT client.
pub fn mqtt(data: &[u8]) -> bool {
    guan_drivers::mqtt::hostile::drive(data) > 0
}

/// Leaves, bundles and signed heads of a log; acts on their way into it, and who acted.
pub fn log(data: &[u8]) -> bool {
    let mut any = false;
    if let Ok(leaf) = guan_evidence::Leaf::decode(data) {
        assert_eq!(leaf.encode(), data, "one leaf, one encoding");
        any = true;
    }
    if let Ok(act) = guan_log::Act::decode(data) {
        assert_eq!(act.encode(), data, "one act, one encoding");
        any = true;
    }
    if let Ok(opening) = guan_evidence::Opening::decode(data) {
        assert_eq!(opening.encode(), data);
        assert_eq!(opening.commitment(), guan_model::Digest::of(data));
    }
    any |= guan_evidence::bundle::decode(data).is_ok_and(|leaves| !leaves.is_empty());
    if let Ok(text) = std::str::from_utf8(data) {
        any |= guan_evidence::Checkpoint::parse_unverified(text).is_ok();
        any |= guan_evidence::VerifierKey::parse(text).is_ok();
    }
    any
}

/// What others send about logs: notes, witness requests, proofs, policies, receipts.
pub fn proof(data: &[u8]) -> bool {
    let mut any = false;
    if let Ok(request) = guan_evidence::AddCheckpoint::parse(data) {
        let again = guan_evidence::AddCheckpoint::parse(request.to_string().as_bytes());
        assert_eq!(again.as_ref(), Ok(&request));
        any = true;
    }
    any |= guan_evidence::Receipt::decode(data).is_ok();
    let Ok(text) = std::str::from_utf8(data) else { return any };
    any |= guan_evidence::Note::parse(text).is_ok();
    any |= guan_evidence::Tile::parse(text).is_ok();
    if let Ok(proof) = guan_evidence::TlogProof::parse(text) {
        assert_eq!(guan_evidence::TlogProof::parse(&proof.to_string()).as_ref(), Ok(&proof));
        any = true;
    }
    if let Ok(policy) = guan_evidence::Policy::parse(text) {
        assert_eq!(guan_evidence::Policy::parse(&policy.to_string()).as_ref(), Ok(&policy));
        any = true;
    }
    any
}

/// Payloads of sensors, by every mapping: the first byte chooses the topic.
pub fn payload(data: &[u8]) -> bool {
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    let decoder = DECODER.get_or_init(decoder);
    let Some((choice, payload)) = data.split_first() else { return false };
    let topic = ["json", "bytes", "senml", "raw"][usize::from(choice % 4)];
    let rows =
        decoder.decode(topic, payload, WallTime(1_800_000_000_000_000_000), ClockQuality::Rtc);
    match rows {
        Ok(rows) => !rows.is_empty(),
        Err(refusal) => {
            assert!(!refusal.text().is_empty());
            false
        }
    }
}

/// Firmware's logs, replayed and searched.
pub fn boot_log(data: &[u8]) -> bool {
    let Ok(log) = attest::EventLog::parse(data) else { return false };
    let pcrs = log.replay();
    assert!(pcrs.len() <= log.events.len());
    for name in ["SecureBoot", "db"] {
        attest::secure_boot_variable(&log, name);
    }
    true
}

/// The kernel's lists of measured files.
pub fn ima_list(data: &[u8]) -> bool {
    let Ok(entries) = attest::parse_ima(data) else { return false };
    attest::replay_ima(&entries, &Digest([0; 32]), &Digest([9; 32]));
    let place = attest::ImaPlace { entries: 1, value: Digest([9; 32]) };
    assert_eq!(attest::ima_after(data, place), (data, attest::ImaPlace::START));
    !entries.is_empty()
}

/// Statements, signatures and public areas of TPMs, and certificates of their makers.
pub fn tpm(data: &[u8]) -> bool {
    static EK: OnceLock<attest::TpmPublic> = OnceLock::new();
    let ek = EK.get_or_init(|| {
        let bytes = include_bytes!("../fuzz/corpus/tpm/ek_public");
        attest::TpmPublic::parse(bytes).expect("the public area of a TPM's key")
    });
    let now = WallTime(1_800_000_000_000_000_000);
    // There is no root, so that the chain is the only thing that can be missing.
    let certified = attest::check_endorsement(ek, data, &[], &[], now);
    let is_certificate = matches!(certified, Err(attest::EndorsementFault::Chain { .. }));
    let mut any = attest::Attestation::parse(data).is_ok() | is_certificate;
    if let Ok(public) = attest::TpmPublic::parse(data) {
        assert_eq!(public.name(), attest::name_of(data));
        any = true;
    }
    if let Ok(signature) = attest::TpmSignature::parse(data) {
        assert!(signature.to_der().len() <= 72);
        any = true;
    }
    any
}

/// Evidence of boxes, the messages of those that join, and what they ask later.
pub fn evidence(data: &[u8]) -> bool {
    let mut any = JoinRequest::decode(data).is_ok() | JoinAnswer::decode(data).is_ok();
    any |= JoinSecret::decode(data).is_ok();
    if let Ok(ask) = UpkeepAsk::decode(data) {
        assert_eq!(ask.encode(), data, "one question, one encoding");
        any = true;
    }
    if let Ok(answer) = UpkeepAnswer::decode(data) {
        assert_eq!(answer.encode()[..], *data, "one answer, one encoding");
        any = true;
    }
    let Ok(evidence) = attest::Evidence::decode(data) else { return any };
    assert_eq!(evidence.encode(), data, "one evidence, one encoding");
    // Logs may unpack to their limits and not beyond.
    let _ = attest::unpack_logs(&evidence);
    true
}

fn point(id: u32, name: &str, value_type: ValueType) -> PointDescriptor {
    PointDescriptor {
        id: PointId(id),
        name: PointName::parse(name).expect("a valid name"),
        value_type,
        unit: Unit::one(),
        dataset: DatasetId::parse("d").expect("a valid name"),
        class: Class::General,
        tags: BTreeSet::new(),
    }
}

fn decoder() -> Decoder {
    let points = vec![point(1, "number", ValueType::F64), point(2, "bytes", ValueType::Bytes)];
    let table = DescriptorTable::new(points).expect("points of their own");
    let field = |point: &str, encoding| FieldSpec {
        point: point.to_owned(),
        value: "/value".to_owned(),
        time: Some(TimeSpec { path: "/t".to_owned(), format: TimeFormat::Auto }),
        quality: Some("/q".to_owned()),
        encoding,
    };
    let mapping = |filter: &str, format| MappingSpec {
        filter: filter.to_owned(),
        format,
        undecodable: Undecodable::Refuse,
    };
    let specs = [
        mapping("json", FormatSpec::Json(vec![field("number", None)])),
        mapping("bytes", FormatSpec::Json(vec![field("bytes", Some(Encoding::Hex))])),
        mapping("senml", FormatSpec::Senml { prefix: String::new() }),
        mapping("raw", FormatSpec::Raw { point: "bytes".to_owned() }),
    ];
    Decoder::compile(&specs, &table).expect("valid mappings")
}
