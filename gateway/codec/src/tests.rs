//! Round trips bit for bit, limits, hostile bytes, the golden file.

use super::*;
use ::bytes::Bytes;
use guan_model::{
    BatchHeader, BootNumber, ClockQuality, ContractId, DatasetId, PointId, Quality,
    ROWS_PER_BATCH_MAX, Row, Value, WallTime,
};
use proptest::prelude::*;
use std::time::Duration;

fn header() -> BatchHeader {
    BatchHeader {
        dataset: DatasetId::parse("vessel-bus").unwrap(),
        contract: Some(ContractId::parse("C-1").unwrap()),
        descriptors: Digest([9; 32]),
        boot: BootNumber(3),
        monotonic: Duration::from_millis(123_456),
        clock_quality: ClockQuality::Ntp,
    }
}

fn same(one: &Batch, other: &Batch) -> bool {
    one.header == other.header && one.iter_rows().eq(other.iter_rows())
}

fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        any::<bool>().prop_map(|v| Some(Value::Bool(v))),
        any::<i64>().prop_map(|v| Some(Value::I64(v))),
        (0_i64..50).prop_map(|v| Some(Value::I64(v))),
        any::<u64>().prop_map(|v| Some(Value::U64(v))),
        any::<u32>().prop_map(|v| Some(Value::F32(f32::from_bits(v)))),
        any::<u64>().prop_map(|v| Some(Value::F64(f64::from_bits(v)))),
        (-5000_i32..5000).prop_map(|v| Some(Value::F64(f64::from(v) / 100.0))),
        Just(Some(Value::F64(-0.0))),
        "[a-z温度]{0,12}".prop_map(|v| Some(Value::Text(v))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|v| Some(Value::Bytes(v.into()))),
        any::<[u8; 8]>().prop_map(|v| Some(Value::Bytes(Bytes::copy_from_slice(&v)))),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let time = prop_oneof![any::<i64>(), (0_i64..1000).prop_map(|ms| ms * 1_000_000)];
    let quality = any::<u16>().prop_filter_map("severity 3", Quality::from_bits);
    let source = prop::option::of(time.clone());
    (0_u32..6, source, time, quality, value()).prop_map(
        |(point, source, gateway, quality, value)| Row {
            point: PointId(point * 7),
            source_time: source.map(WallTime),
            gateway_time: WallTime(gateway),
            quality,
            value,
        },
    )
}

proptest! {
    #[test]
    fn batches_survive_bit_for_bit(rows in prop::collection::vec(row(), 0..300)) {
        let batch = Batch::from_rows(header(), rows).unwrap();
        let encoded = encode(&batch);
        let decoded = decode(&encoded.bytes).unwrap();
        prop_assert!(same(&batch, &decoded.batch));
        prop_assert_eq!(decoded.digest, encoded.digest);
        prop_assert_eq!(encoded.rows as usize, batch.rows());
    }

    #[test]
    fn any_plain_bytes_give_an_answer(bytes: Vec<u8>) {
        let _ = plain::read(&bytes);
        let _ = decode(&bytes);
    }
}

fn sample() -> Batch {
    let rows = (0..200_u32).map(|number| Row {
        point: PointId(number % 5),
        source_time: (number % 7 != 0).then_some(WallTime(i64::from(number) * 100_000_000)),
        gateway_time: WallTime(i64::from(number / 20) * 1_000_000),
        quality: Quality::GOOD,
        value: match number % 5 {
            0 => Some(Value::F64(f64::from(number) / 10.0)),
            1 => Some(Value::Bytes(Bytes::from(vec![1, 2, (number & 0xFF) as u8, 255]))),
            2 => Some(Value::Text(format!("state {}", number % 3))),
            3 => Some(Value::I64(-i64::from(number))),
            _ => None,
        },
    });
    Batch::from_rows(header(), rows).unwrap()
}

#[test]
fn version_one_stays_readable() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/batch-1.bin");
    let golden = std::fs::read(path).unwrap();
    let decoded = decode(&golden).unwrap();
    assert!(same(&decoded.batch, &sample()));
    let digest = "c818b2395b11613f8a5b19a3d1e07611daffc80a5d848181e391c5a790bdcf0a";
    assert_eq!(decoded.digest.to_string(), digest);
}

#[test]
fn damaged_batches_are_errors() {
    let bytes = encode(&sample()).bytes;
    for cut in 0..bytes.len() {
        assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let plain = self::plain(&bytes).unwrap();
    for cut in 0..plain.len() {
        assert!(plain::read(&plain[..cut]).is_err(), "plain cut at {cut}");
    }
    let mut longer = plain.clone();
    longer.push(0);
    assert!(plain::read(&longer).is_err());
}

/// A hundred thousand damaged batches: an error or another batch, never a panic or a flood of memory.
#[test]
fn mutated_batches_give_an_answer() {
    let plain = self::plain(&encode(&sample()).bytes).unwrap();
    let mut state = 1_u64;
    let mut roll = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..100_000 {
        let mut mutated = plain.clone();
        for _ in 0..1 + roll(4) {
            let at = roll(mutated.len());
            mutated[at] = u8::try_from(roll(256)).unwrap();
        }
        if let Ok(batch) = plain::read(&mutated) {
            assert!(batch.rows() <= ROWS_PER_BATCH_MAX);
        }
    }
}

#[test]
fn the_announced_length_is_capped() {
    let mut out = Writer::new();
    out.raw(MAGIC);
    out.varint(PLAIN_BYTES_MAX as u64 + 1);
    out.raw(&zstd::bulk::compress(&[0; 100], 3).unwrap());
    let fault = decode(&out.finish()).unwrap_err();
    assert_eq!(fault, DecodeFault::TooLong { length: PLAIN_BYTES_MAX + 1, limit: PLAIN_BYTES_MAX });
    let huge = vec![0; BATCH_BYTES_MAX + 1];
    assert!(matches!(decode(&huge), Err(DecodeFault::TooLong { .. })));
}

#[test]
fn the_largest_batch_fits() {
    let largest = |number: usize| {
        // Bytes that do not compress, so that every limit is met at once.
        let mut state = number as u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (state >> 56) as u8
        };
        Value::Bytes((0..900).map(|_| noise()).collect::<Vec<u8>>().into())
    };
    let rows = (0..ROWS_PER_BATCH_MAX).map(|number| Row {
        point: PointId(u32::try_from(number).unwrap()),
        source_time: Some(WallTime(i64::try_from(number).unwrap())),
        gateway_time: WallTime(0),
        quality: Quality::GOOD,
        value: Some(largest(number)),
    });
    let batch = Batch::from_rows(header(), rows).unwrap();
    let encoded = encode(&batch);
    assert!(encoded.bytes.len() > 7 << 20);
    assert!(same(&decode(&encoded.bytes).unwrap().batch, &batch));
}

#[test]
fn tables_survive_and_bombs_do_not_inflate() {
    let table = DescriptorTable::new(Vec::new()).unwrap();
    assert_eq!(unpack_table(&pack_table(&table)).unwrap().digest(), table.digest());
    let check = |length: usize, inflates: bool| {
        let bomb = zstd::bulk::compress(&vec![0; length], 3).unwrap();
        let fault = unpack_table(&bomb).unwrap_err();
        assert_eq!(matches!(fault, TableFault::Table(_)), inflates, "{length} bytes: {fault}");
    };
    check(TABLE_BYTES_MAX, true);
    check(TABLE_BYTES_MAX + 1, false);
}
