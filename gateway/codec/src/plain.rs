//! The plain bytes: header, series table, columns.

use crate::DecodeFault;
use crate::column::{bytes, number, quality, time};
use guan_model::bytes_io::{Reader, Writer};
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, Column, ContractId, DatasetId, PointId,
    ROWS_PER_BATCH_MAX, Series, ValueType,
};
use std::time::Duration;

/// A series of numbers this long has a column of its own, because the best encoding differs by point.
const OWN_COLUMN_ROWS_MIN: usize = 64;

pub(crate) fn write(batch: &Batch) -> Vec<u8> {
    let mut out = Writer::new();
    write_header(&batch.header, &mut out);
    out.varint(batch.series.len() as u64);
    let mut last = 0;
    for series in &batch.series {
        out.varint(u64::from(series.point.0 - last));
        last = series.point.0;
        out.u8(series.values.value_type().map_or(0, |value_type| value_type as u8));
        out.varint(series.rows() as u64);
    }
    let runs: Vec<usize> = batch.series.iter().map(Series::rows).collect();
    let sources: Vec<_> = batch.series.iter().flat_map(|one| one.source_times.clone()).collect();
    time::write_optional(&sources, &runs, &mut out);
    let gateways: Vec<_> = batch.series.iter().flat_map(|one| one.gateway_times.clone()).collect();
    time::write(&gateways, &runs, &mut out);
    let qualities: Vec<_> = batch.series.iter().flat_map(|one| one.qualities.clone()).collect();
    quality::write(&qualities, &mut out);
    for value_type in ValueType::ALL {
        write_values(batch, value_type, &mut out);
    }
    out.finish()
}

fn write_header(header: &BatchHeader, out: &mut Writer) {
    out.text(header.dataset.as_str());
    out.text(header.contract.as_ref().map_or("", ContractId::as_str));
    out.raw(&header.descriptors.0);
    out.varint(u64::from(header.boot.0));
    out.varint(u64::try_from(header.monotonic.as_nanos()).unwrap_or(u64::MAX));
    out.u8(header.clock_quality as u8);
}

fn read_header(reader: &mut Reader<'_>) -> Result<BatchHeader, DecodeFault> {
    let value = |what| DecodeFault::Value { what };
    let dataset = DatasetId::parse(reader.text()?).map_err(|_| value("dataset id"))?;
    let contract = match reader.text()? {
        "" => None,
        text => Some(ContractId::parse(text).map_err(|_| value("contract id"))?),
    };
    let descriptors = reader.digest()?;
    let boot = u32::try_from(reader.varint()?).map_err(|_| value("boot number"))?;
    let monotonic = Duration::from_nanos(reader.varint()?);
    let clock_quality = ClockQuality::from_code(reader.u8()?).ok_or(value("clock quality"))?;
    let boot = BootNumber(boot);
    Ok(BatchHeader { dataset, contract, descriptors, boot, monotonic, clock_quality })
}

/// All values of one type: long series of numbers one by one, the others together.
fn write_values(batch: &Batch, value_type: ValueType, out: &mut Writer) {
    let all = batch.series.iter().map(|one| &one.values);
    let of_type: Vec<&Column> =
        all.filter(|values| values.value_type() == Some(value_type)).collect();
    macro_rules! numbers {
        ($variant:ident, $write:path) => {{
            let mut together = Vec::new();
            for column in &of_type {
                let Column::$variant(values) = column else { continue };
                match values.len() >= OWN_COLUMN_ROWS_MIN {
                    true => $write(values, out),
                    false => together.extend_from_slice(values),
                }
            }
            $write(&together, out);
        }};
    }
    if of_type.is_empty() {
        return;
    }
    match value_type {
        ValueType::I64 => numbers!(I64, number::write_i64),
        ValueType::U64 => numbers!(U64, number::write_u64),
        ValueType::F32 => numbers!(F32, number::write_f32),
        ValueType::F64 => numbers!(F64, number::write_f64),
        ValueType::Bool => {
            let runs = of_type.iter().filter_map(|column| match column {
                Column::Bool(values) => Some(values.as_slice()),
                _ => None,
            });
            quality::write_flags(&runs.collect::<Vec<_>>().concat(), out);
        }
        ValueType::Text => {
            let series: Vec<Vec<&[u8]>> = of_type.iter().map(|column| blobs(column)).collect();
            bytes::write(&series, out);
        }
        ValueType::Bytes => {
            let series: Vec<Vec<&[u8]>> = of_type.iter().map(|column| blobs(column)).collect();
            bytes::write(&series, out);
        }
    }
}

fn blobs(column: &Column) -> Vec<&[u8]> {
    match column {
        Column::Text(values) => values.iter().map(String::as_bytes).collect(),
        Column::Bytes(values) => values.iter().map(|value| &value[..]).collect(),
        _ => Vec::new(),
    }
}

struct Slot {
    point: PointId,
    value_type: Option<ValueType>,
    rows: usize,
}

pub(crate) fn read(plain: &[u8]) -> Result<Batch, DecodeFault> {
    let mut reader = Reader::new(plain);
    let header = read_header(&mut reader)?;
    let slots = read_slots(&mut reader)?;
    let rows = slots.iter().map(|slot| slot.rows).sum();
    let runs: Vec<usize> = slots.iter().map(|slot| slot.rows).collect();
    let mut sources = time::read_optional(rows, &runs, &mut reader)?.into_iter();
    let mut gateways = time::read(rows, &runs, &mut reader)?.into_iter();
    let mut qualities = quality::read(rows, &mut reader)?.into_iter();
    let mut columns: Vec<Column> = slots.iter().map(|slot| Column::of(slot.value_type)).collect();
    for value_type in ValueType::ALL {
        read_values(&slots, value_type, &mut columns, &mut reader)?;
    }
    reader.end()?;
    let series = slots.iter().zip(columns).map(|(slot, values)| Series {
        point: slot.point,
        source_times: sources.by_ref().take(slot.rows).collect(),
        gateway_times: gateways.by_ref().take(slot.rows).collect(),
        qualities: qualities.by_ref().take(slot.rows).collect(),
        values,
    });
    Ok(Batch::from_series(header, series.collect())?)
}

fn read_slots(reader: &mut Reader<'_>) -> Result<Vec<Slot>, DecodeFault> {
    let count = reader.varint()?;
    if count > ROWS_PER_BATCH_MAX as u64 {
        return Err(DecodeFault::Value { what: "number of series" });
    }
    let (mut slots, mut point, mut total) = (Vec::new(), 0_u32, 0_u64);
    for _ in 0..count {
        let step = u32::try_from(reader.varint()?).ok();
        point = step
            .and_then(|step| point.checked_add(step))
            .ok_or(DecodeFault::Value { what: "point id" })?;
        let value_type = match reader.u8()? {
            0 => None,
            code => {
                Some(ValueType::from_code(code).ok_or(DecodeFault::Value { what: "value type" })?)
            }
        };
        let rows = reader.varint()?;
        total = total.saturating_add(rows);
        if total > ROWS_PER_BATCH_MAX as u64 {
            return Err(DecodeFault::Value { what: "number of rows" });
        }
        let rows = usize::try_from(rows).map_err(|_| DecodeFault::Count)?;
        slots.push(Slot { point: PointId(point), value_type, rows });
    }
    Ok(slots)
}

fn read_values(
    slots: &[Slot],
    value_type: ValueType,
    columns: &mut [Column],
    reader: &mut Reader<'_>,
) -> Result<(), DecodeFault> {
    let of_type: Vec<usize> =
        (0..slots.len()).filter(|index| slots[*index].value_type == Some(value_type)).collect();
    if of_type.is_empty() {
        return Ok(());
    }
    macro_rules! numbers {
        ($variant:ident, $read:path) => {{
            for index in &of_type {
                if slots[*index].rows >= OWN_COLUMN_ROWS_MIN {
                    columns[*index] = Column::$variant($read(slots[*index].rows, reader)?);
                }
            }
            let short = |index: &&usize| slots[**index].rows < OWN_COLUMN_ROWS_MIN;
            let rows = of_type.iter().filter(short).map(|index| slots[*index].rows).sum();
            let mut together = $read(rows, reader)?.into_iter();
            for index in of_type.iter().filter(short) {
                let values = together.by_ref().take(slots[*index].rows).collect();
                columns[*index] = Column::$variant(values);
            }
        }};
    }
    match value_type {
        ValueType::I64 => numbers!(I64, number::read_i64),
        ValueType::U64 => numbers!(U64, number::read_u64),
        ValueType::F32 => numbers!(F32, number::read_f32),
        ValueType::F64 => numbers!(F64, number::read_f64),
        ValueType::Bool => {
            let rows = of_type.iter().map(|index| slots[*index].rows).sum();
            let mut flags = quality::read_flags(rows, reader)?.into_iter();
            for index in of_type {
                columns[index] = Column::Bool(flags.by_ref().take(slots[index].rows).collect());
            }
        }
        ValueType::Text | ValueType::Bytes => {
            let runs: Vec<usize> = of_type.iter().map(|index| slots[*index].rows).collect();
            for (index, blobs) in of_type.into_iter().zip(bytes::read(&runs, reader)?) {
                columns[index] = match value_type {
                    ValueType::Bytes => Column::Bytes(blobs.into_iter().map(Into::into).collect()),
                    _ => {
                        let texts: Result<_, _> =
                            blobs.into_iter().map(String::from_utf8).collect();
                        Column::Text(texts.map_err(|_| DecodeFault::Value { what: "text" })?)
                    }
                };
            }
        }
    }
    Ok(())
}
