//! Texts and bytes. Messages of one point that all have the same length, such as bus frames, are
//! transposed: the counter in byte 3 stands beside itself, as differences along the series.

use super::cheapest;
use crate::DecodeFault;
use guan_model::bytes_io::{Reader, Writer};
use guan_model::value::BYTES_BYTES_MAX;

const CONCATENATED: u8 = 0;
const TRANSPOSED: u8 = 1;
const TRANSPOSED_XOR: u8 = 2;
const TRANSPOSED_DELTA: u8 = 3;
/// Longer messages have no columns that mean anything.
const TRANSPOSED_BYTES_MAX: usize = 256;

/// `series`: the messages of each point.
pub(crate) fn write(series: &[Vec<&[u8]>], out: &mut Writer) {
    let mut lengths = Writer::new();
    for messages in series {
        match same_length(messages) {
            // One more than the length, so that 0 can say that they differ.
            Some(length) => lengths.varint(length as u64 + 1),
            None => {
                lengths.varint(0);
                messages.iter().for_each(|message| lengths.varint(message.len() as u64));
            }
        }
    }
    out.bytes(&lengths.finish());
    let has_planes =
        series.iter().any(|messages| is_transposed(TRANSPOSED, same_length(messages)).is_some());
    let layouts: &[u8] = match has_planes {
        true => &[CONCATENATED, TRANSPOSED, TRANSPOSED_XOR, TRANSPOSED_DELTA],
        // All layouts would be the same.
        false => &[CONCATENATED],
    };
    let candidates = layouts.iter().map(|layout| (*layout, lay_out(series, *layout)));
    let (tag, bytes) = cheapest(candidates.collect());
    out.u8(tag);
    out.bytes(&bytes);
}

fn same_length(messages: &[&[u8]]) -> Option<usize> {
    let length = messages.first()?.len();
    messages.iter().all(|message| message.len() == length).then_some(length)
}

fn is_transposed(layout: u8, length: Option<usize>) -> Option<usize> {
    length.filter(|length| layout != CONCATENATED && *length <= TRANSPOSED_BYTES_MAX)
}

fn lay_out(series: &[Vec<&[u8]>], layout: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for messages in series {
        let Some(length) = is_transposed(layout, same_length(messages)) else {
            messages.iter().for_each(|message| out.extend_from_slice(message));
            continue;
        };
        for plane in 0..length {
            let mut last = 0;
            for message in messages {
                let byte = message[plane];
                out.push(combine(layout, byte, last));
                last = byte;
            }
        }
    }
    out
}

fn combine(layout: u8, byte: u8, last: u8) -> u8 {
    match layout {
        TRANSPOSED_XOR => byte ^ last,
        TRANSPOSED_DELTA => byte.wrapping_sub(last),
        _ => byte,
    }
}

fn undo(layout: u8, coded: u8, last: u8) -> u8 {
    match layout {
        TRANSPOSED_XOR => coded ^ last,
        TRANSPOSED_DELTA => coded.wrapping_add(last),
        _ => coded,
    }
}

/// `runs`: how many messages each series has. Returns the messages of each.
pub(crate) fn read(
    runs: &[usize],
    reader: &mut Reader<'_>,
) -> Result<Vec<Vec<Vec<u8>>>, DecodeFault> {
    let mut lengths = Reader::new(reader.bytes()?);
    let layout = reader.u8()?;
    if layout > TRANSPOSED_DELTA {
        return Err(DecodeFault::Encoding { column: "bytes", code: layout });
    }
    let mut data = Reader::new(reader.bytes()?);
    let mut all = Vec::with_capacity(runs.len());
    for run in runs {
        all.push(read_series(*run, layout, &mut lengths, &mut data)?);
    }
    lengths.end()?;
    data.end()?;
    Ok(all)
}

fn read_series(
    run: usize,
    layout: u8,
    lengths: &mut Reader<'_>,
    data: &mut Reader<'_>,
) -> Result<Vec<Vec<u8>>, DecodeFault> {
    let shared = match lengths.varint()? {
        0 => None,
        more => Some(check_length(more - 1)?),
    };
    if let Some(length) = is_transposed(layout, shared) {
        let planes = data.raw(length.checked_mul(run).ok_or(DecodeFault::Count)?)?;
        let mut messages = vec![vec![0; length]; run];
        for (plane, coded) in planes.chunks_exact(run.max(1)).enumerate() {
            let mut last = 0;
            for (message, coded) in messages.iter_mut().zip(coded) {
                last = undo(layout, *coded, last);
                message[plane] = last;
            }
        }
        return Ok(messages);
    }
    let mut messages = Vec::with_capacity(run);
    for _ in 0..run {
        let length = match shared {
            Some(length) => length,
            None => check_length(lengths.varint()?)?,
        };
        messages.push(data.raw(length)?.to_vec());
    }
    Ok(messages)
}

fn check_length(length: u64) -> Result<usize, DecodeFault> {
    let length = usize::try_from(length).ok().filter(|length| *length <= BYTES_BYTES_MAX);
    length.ok_or(DecodeFault::Value { what: "length of a message" })
}
