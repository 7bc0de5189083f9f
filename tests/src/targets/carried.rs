//! Files of a medium. What is sealed cannot be reached by changing a file, so files whose records are in the clear
//! are sealed on the way to the reader.

use guan_carry::{CarryReader, HEADER_BYTES_MAX, Record, Unopened};
use guan_identity::{SealKey, seal_for, seal_key_id};
use std::sync::OnceLock;

/// Magic, version and length of the header.
const FIXED_BYTES: usize = 12;
/// Of the key's digest and of what HPKE gives: the header ends with both.
const FIELD_BYTES: usize = 32;

fn key() -> &'static SealKey {
    static KEY: OnceLock<SealKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let pem = include_str!("../../../gateway/carry/tests/golden/key-v1.pem");
        SealKey::from_pem(pem).expect("the key of the golden file")
    })
}

/// A file as it came, its records in the clear, and one record alone.
pub fn carried(data: &[u8]) -> bool {
    let sealed = sealed_file(data);
    read(data) | sealed.is_some_and(|file| read(&file)) | record(data)
}

fn read(file: &[u8]) -> bool {
    let Ok(unopened) = Unopened::begin(file) else { return false };
    let Ok(mut reader) = unopened.open(key()) else { return false };
    let mut any = false;
    while let Ok(Some(frame)) = reader.next_frame() {
        any = true;
        let again = Record::Frame(frame).encode();
        assert!(again.len() <= file.len() + 16, "a frame grew");
    }
    assert!(reader.end().is_none() || is_over(&mut reader), "something follows after the end");
    if let Some(end) = reader.end() {
        let _ = end.signed_by(&reader.header().box_id);
    }
    any
}

fn is_over(reader: &mut CarryReader<&[u8]>) -> bool {
    matches!(reader.next_frame(), Ok(None))
}

fn record(data: &[u8]) -> bool {
    let Ok(record) = Record::decode(data) else { return false };
    assert_eq!(Record::decode(&record.encode()).ok(), Some(record), "a record survives its bytes");
    true
}

/// Seals the records for the key above; `None` where the file is too short to have any.
fn sealed_file(plain: &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes(plain.get(10..FIXED_BYTES)?.try_into().ok()?));
    if !(2 * FIELD_BYTES..=HEADER_BYTES_MAX).contains(&length) {
        return None;
    }
    let (header, records) = plain.split_at_checked(FIXED_BYTES + length)?;
    let mut file = header[..header.len() - 2 * FIELD_BYTES].to_vec();
    file.extend_from_slice(&seal_key_id(&key().public()).0);
    let info = [&b"guan-carry/1\n"[..], &file].concat();
    let (enc, mut sealing) = seal_for(&key().public(), &info).ok()?;
    file.extend_from_slice(&enc);
    for record in pieces(records) {
        let mut record = record.to_vec();
        sealing.seal(&mut record);
        file.extend_from_slice(&u32::try_from(record.len()).ok()?.to_le_bytes());
        file.extend_from_slice(&record);
    }
    Some(file)
}

fn pieces(records: &[u8]) -> Vec<&[u8]> {
    let (mut left, mut pieces) = (records, Vec::new());
    while let Some((length, rest)) = left.split_at_checked(4) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        pieces.push(piece);
        left = rest;
    }
    pieces
}

/// A file whose records are in the clear.
pub fn plain_file(file: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Unopened::begin(file).ok()?.open(key()).ok()?;
    let length = usize::from(u16::from_le_bytes(file.get(10..FIXED_BYTES)?.try_into().ok()?));
    let mut plain = file[..FIXED_BYTES + length].to_vec();
    let mut put = |record: Record| {
        let record = record.encode();
        plain.extend_from_slice(&u32::try_from(record.len()).ok()?.to_le_bytes());
        plain.extend_from_slice(&record);
        Some(())
    };
    while let Some(frame) = reader.next_frame().ok()? {
        put(Record::Frame(frame))?;
    }
    put(Record::End(reader.end()?.clone()))?;
    Some(plain)
}
