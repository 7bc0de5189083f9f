//! Files of a medium: read as they were written, refused in every other state, limited, and the same for ever.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use guan_carry::{
    CarryFault, CarryReader, CarryWriter, Counts, End, FILE_BYTES_MAX, Header, Record, Unopened,
};
use guan_identity::{
    KeyFile, SealKey, SmallCa, Tier, certificate_request, read_certificates, seal_key_id,
};
use guan_link::{
    BATCH_BYTES_MAX, BoxFrame, EncodedBatch, Gap, Hello, Item, Offer, StreamRange, VERSIONS,
};
use guan_model::{
    BatchSeq, BoxId, ContractId, DatasetId, Digest, Signer, SpoolId, StreamId, WallTime,
};
use std::sync::Arc;

const STREAM: StreamId = StreamId(9);
const GOLDEN: &[u8] = include_bytes!("golden/file-v1.carry");
const GOLDEN_KEY: &str = include_str!("golden/key-v1.pem");

/// A box that a space has enrolled.
struct Enrolled {
    id: BoxId,
    key: Arc<KeyFile>,
    certificate: Vec<u8>,
}

impl Enrolled {
    fn new(name: &str) -> Self {
        let now = WallTime::from_seconds(1_800_000_000);
        let ca_key: Arc<dyn Signer> = Arc::new(KeyFile::generate("ca").unwrap().0);
        let ca = SmallCa::create("ca", ca_key, now, 365).unwrap();
        let (id, key) = (BoxId::parse(name).unwrap(), Arc::new(KeyFile::generate(name).unwrap().0));
        let request = certificate_request(key.clone(), &id).unwrap();
        let pem = ca.issue_box(&request, &id, Tier::Unattested, now, 30).unwrap();
        let certificate = read_certificates(&pem).unwrap()[0].to_vec();
        Self { id, key, certificate }
    }
}

fn seal_key() -> SealKey {
    SealKey::from_pem(GOLDEN_KEY).unwrap()
}

fn header(key: &SealKey) -> Header {
    Header {
        box_id: BoxId::parse("box-1").unwrap(),
        spool: SpoolId([7; 16]),
        space: BoxId::parse("space-1").unwrap(),
        key: seal_key_id(&key.public()),
    }
}

fn hello(spool: u8) -> BoxFrame {
    let (oldest_unreleased, newest) = (BatchSeq(3), BatchSeq(9));
    let range = StreamRange { id: STREAM, oldest_unreleased, newest };
    let offer = Offer::new(SpoolId([spool; 16]), vec![range]).unwrap();
    BoxFrame::Hello(Hello { versions: VERSIONS, offer })
}

fn batch(seq: u64, length: usize) -> Item {
    Item::Batch(EncodedBatch {
        seq: BatchSeq(seq),
        dataset: DatasetId::parse("d").unwrap(),
        contract: ContractId::parse("C-1").unwrap(),
        rows: 5,
        digest: Digest([3; 32]),
        bytes: Bytes::from(vec![0xAB; length]),
    })
}

fn gap() -> Item {
    Item::Gap(Gap { from: BatchSeq(4), through: BatchSeq(6), rows: 30, reason: 1 })
}

fn frames() -> Vec<BoxFrame> {
    let items = [batch(3, 100), gap(), batch(7, 0)].map(|item| BoxFrame::Item(STREAM, item));
    let table = BoxFrame::Descriptors(Bytes::from_static(b"table"));
    [hello(7), table].into_iter().chain(items).collect()
}

fn file(key: &SealKey, from: &Enrolled, frames: &[BoxFrame]) -> Vec<u8> {
    let mut writer = CarryWriter::begin(Vec::new(), &header(key), &key.public()).unwrap();
    frames.iter().for_each(|frame| writer.put(frame).unwrap());
    let (file, end) = writer.finish(&from.certificate, from.key.as_ref()).unwrap();
    assert_eq!(Digest::of(&file[..file.len() - sealed_length(&end)]), end.digest);
    file
}

/// Of the end, in the file.
fn sealed_length(end: &End) -> usize {
    4 + Record::End(end.clone()).encode().len() + 16
}

fn open<'f>(file: &'f [u8], key: &SealKey) -> Result<CarryReader<&'f [u8]>, CarryFault> {
    Unopened::begin(file)?.open(key)
}

/// All frames and the end; the signature is the caller's to check.
fn read(file: &[u8], key: &SealKey) -> Result<(Vec<BoxFrame>, End), CarryFault> {
    let mut reader = open(file, key)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push(frame);
    }
    Ok((frames, reader.end().unwrap().clone()))
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let (key, from) = (seal_key(), Enrolled::new("box-1"));
    let file = file(&key, &from, &frames());
    let (found, end) = read(&file, &key).unwrap();
    assert_eq!(found, frames());
    assert_eq!(end.counts, Counts { batches: 2, gaps: 1, rows: 10 });
    assert_eq!(end.signed_by(&from.id).unwrap(), Tier::Unattested);
    let header = Unopened::begin(&file[..]).unwrap().header().clone();
    assert_eq!((header.box_id, header.spool), (from.id, SpoolId([7; 16])));
    // What the records hold is not in sight.
    let shows = |part: &[u8]| file.windows(part.len()).any(|bytes| bytes == part);
    assert!(shows(b"box-1") && shows(b"space-1"));
    assert!(!shows(b"C-1") && !shows(b"table") && !shows(&[0xAB; 8]));
}

#[test]
fn a_file_that_was_cut_or_changed_anywhere_is_none() {
    let (key, from) = (seal_key(), Enrolled::new("box-1"));
    let whole = file(&key, &from, &frames());
    for length in 0..whole.len() {
        let fault = read(&whole[..length], &key).unwrap_err();
        let is_told = match length {
            0..12 => matches!(fault, CarryFault::Magic),
            _ => fault.is_cut(),
        };
        assert!(is_told, "{length}: {fault}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        read(&changed, &key).unwrap_err();
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(read(&longer, &key), Err(CarryFault::Trailing)));
    let other = tempfile::tempdir().unwrap();
    let other = SealKey::create(&other.path().join("key")).unwrap();
    assert!(matches!(read(&whole, &other), Err(CarryFault::OtherKey { .. })));
    let later = [&whole[..8], &[2, 0], &whole[10..]].concat();
    assert!(matches!(read(&later, &key), Err(CarryFault::Version { found: 2 })));
}

/// Anybody can seal for the space, so the end must be the box's own.
#[test]
fn a_file_of_somebody_else_is_told_apart() {
    let (key, from, other) = (seal_key(), Enrolled::new("box-1"), Enrolled::new("box-2"));
    let said = BoxId::parse("box-1").unwrap();
    let (_, end) = read(&file(&key, &other, &frames()), &key).unwrap();
    assert!(matches!(end.signed_by(&said), Err(CarryFault::OtherBox { .. })));
    let mixed = Enrolled { certificate: from.certificate.clone(), ..other };
    let (_, end) = read(&file(&key, &mixed, &frames()), &key).unwrap();
    assert!(matches!(end.signed_by(&said), Err(CarryFault::Forged)));
    let (_, end) = read(&file(&key, &from, &frames()), &key).unwrap();
    let counted = End { counts: Counts { rows: 11, ..end.counts }, ..end.clone() };
    assert!(matches!(counted.signed_by(&said), Err(CarryFault::Forged)));
    let certificate = End { certificate: b"none".to_vec(), ..end };
    assert!(matches!(certificate.signed_by(&said), Err(CarryFault::Certificate { .. })));
}

#[test]
fn the_hello_comes_first_and_once() {
    let (key, from) = (seal_key(), Enrolled::new("box-1"));
    let refused = |frames: &[BoxFrame]| {
        let fault = read(&file(&key, &from, frames), &key).unwrap_err();
        assert!(matches!(fault, CarryFault::Record { .. }), "{fault}");
    };
    refused(&frames()[1..]);
    refused(&[hello(8)]);
    refused(&[hello(7), hello(7)]);
    assert!(read(&file(&key, &from, &[hello(7)]), &key).is_ok());
    let only_end = file(&key, &from, &[]);
    assert_eq!(read(&only_end, &key).unwrap().0, []);
}

#[test]
fn the_limits_are_exact() {
    let (key, from) = (seal_key(), Enrolled::new("box-1"));
    // The longest batch goes through.
    let longest = BoxFrame::Item(STREAM, batch(3, BATCH_BYTES_MAX));
    let long = file(&key, &from, &[hello(7), longest.clone()]);
    assert_eq!(read(&long, &key).unwrap().0[1], longest);
    // A record that is said to be longer is refused before it is read.
    let begin = || CarryWriter::begin(Vec::new(), &header(&key), &key.public()).unwrap();
    let start = begin().finish(&from.certificate, from.key.as_ref()).unwrap();
    let before = start.0.len() - sealed_length(&start.1);
    let said = |length: usize| {
        let record = u32::try_from(length).unwrap().to_le_bytes();
        read(&[&start.0[..before], &record[..]].concat(), &key).unwrap_err()
    };
    let most = guan_carry::RECORD_BYTES_MAX + 16;
    assert!(said(most).is_cut());
    assert!(matches!(said(most + 1), CarryFault::RecordTooLong { .. }));
    // What a file may have is asked before an item is put.
    let mut writer = begin();
    writer.put(&hello(7)).unwrap();
    let item = batch(3, 1000);
    let needed = (0..FILE_BYTES_MAX).find(|limit| writer.has_room(&item, *limit)).unwrap();
    assert!(!writer.has_room(&item, needed - 1) && writer.has_room(&item, u64::MAX));
    writer.put(&BoxFrame::Item(STREAM, item)).unwrap();
    let (file, _) = writer.finish(&from.certificate, from.key.as_ref()).unwrap();
    assert!(file.len() as u64 <= needed, "{} bytes, {needed} were asked for", file.len());
    // A header is as long as its names.
    let longest = "x".repeat(guan_model::ids::NAME_BYTES_MAX);
    let name = BoxId::parse(&longest).unwrap();
    let named = Header { box_id: name.clone(), space: name, ..header(&key) };
    assert!(CarryWriter::begin(Vec::new(), &named, &key.public()).is_ok());
}

/// The golden file is never written again: sticks with such files exist.
#[test]
fn golden_file() {
    let (found, end) = read(GOLDEN, &seal_key()).unwrap();
    assert_eq!(found, frames());
    assert_eq!(end.signed_by(&BoxId::parse("box-1").unwrap()).unwrap(), Tier::Unattested);
    assert_eq!(Digest::of(&GOLDEN[..GOLDEN.len() - sealed_length(&end)]), end.digest);
}
