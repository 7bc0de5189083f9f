//! One Parquet file for one dataset, written row group by row group.
//!
//! Memory is bounded by the row group. The file has its final name only when it is complete.
//!
//! Never here: what is exported, and in which order.

use guan_model::{
    BatchSeq, BootNumber, BoxId, ContractId, Row, Severity, StreamId, Unit, Value, WallTime,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Rows that close a row group.
pub const ROWS_PER_GROUP: usize = 64 * 1024;
/// Payload bytes that close a row group earlier.
pub const BYTES_PER_GROUP: usize = 64 << 20;

/// Shape of every file; the README explains it to consumers.
const SCHEMA: &str = "message readings {
  required binary box (UTF8);
  required int32 point (INTEGER(32,false));
  required binary point_name (UTF8);
  required binary unit (UTF8);
  optional int64 source_time (TIMESTAMP(NANOS,true));
  required int64 gateway_time (TIMESTAMP(NANOS,true));
  required int32 quality (INTEGER(16,false));
  required binary severity (UTF8);
  optional boolean value_bool;
  optional int64 value_i64;
  optional int64 value_u64 (INTEGER(64,false));
  optional float value_f32;
  optional double value_f64;
  optional binary value_text (UTF8);
  optional binary value_bytes;
  required binary contract (UTF8);
  required int32 stream (INTEGER(16,false));
  required int64 batch_seq (INTEGER(64,false));
  required binary batch (UTF8);
  required binary trace_id (UTF8);
  required int32 boot (INTEGER(32,false));
  required int64 since_boot_ns (INTEGER(64,false));
}";

/// Why a file could not be written; the disk or its owner is to blame.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{path} cannot be written: check the folder's rights and free space")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} cannot be encoded as Parquet")]
    Parquet { path: PathBuf, source: ParquetError },
}

/// Where a row comes from, the same for a whole batch.
#[derive(Debug, Clone)]
pub struct Origin {
    pub box_id: BoxId,
    pub contract: ContractId,
    pub stream: StreamId,
    pub seq: BatchSeq,
    /// Digest of the batch, as both logs have it, and the trace id; in hex. Asked for with
    /// `guan-space trace`.
    pub batch: ByteArray,
    pub trace_id: ByteArray,
    /// Start of the box, and time since then, at which the batch was committed there.
    pub boot: BootNumber,
    pub since_boot: Duration,
}

/// A column of values that may be missing.
#[derive(Debug)]
struct Optional<V> {
    values: Vec<V>,
    levels: Vec<i16>,
}

impl<V> Default for Optional<V> {
    fn default() -> Self {
        Self { values: Vec::new(), levels: Vec::new() }
    }
}

impl<V> Optional<V> {
    fn push(&mut self, value: Option<V>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }
}

#[derive(Debug, Default)]
struct Group {
    rows: usize,
    bytes: usize,
    box_id: Vec<ByteArray>,
    point: Vec<i32>,
    point_name: Vec<ByteArray>,
    unit: Vec<ByteArray>,
    source_time: Optional<i64>,
    gateway_time: Vec<i64>,
    quality: Vec<i32>,
    severity: Vec<ByteArray>,
    value_bool: Optional<bool>,
    value_i64: Optional<i64>,
    value_u64: Optional<i64>,
    value_f32: Optional<f32>,
    value_f64: Optional<f64>,
    value_text: Optional<ByteArray>,
    value_bytes: Optional<ByteArray>,
    contract: Vec<ByteArray>,
    stream: Vec<i32>,
    batch_seq: Vec<i64>,
    batch: Vec<ByteArray>,
    trace_id: Vec<ByteArray>,
    boot: Vec<i32>,
    since_boot: Vec<i64>,
}

/// The file of one dataset while it is being written.
pub struct ParquetFile {
    writer: SerializedFileWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    group: Group,
    rows: u64,
}

impl ParquetFile {
    /// Creates `<path>.part`; it gets its name in [`ParquetFile::finish`].
    pub fn create(path: &Path) -> Result<Self, ExportError> {
        let temporary = path.with_extension("parquet.part");
        let file = File::create(&temporary)
            .map_err(|source| ExportError::File { path: temporary.clone(), source })?;
        let schema = parse_message_type(SCHEMA).expect("the schema above is valid");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(format!("guan-space {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
            .map_err(|source| ExportError::Parquet { path: temporary.clone(), source })?;
        let path = path.to_path_buf();
        Ok(Self { writer, temporary, path, group: Group::default(), rows: 0 })
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds one reading.
    pub fn push(
        &mut self,
        origin: &Origin,
        name: &str,
        unit: &Unit,
        row: Row,
    ) -> Result<(), ExportError> {
        self.group.push(origin, name, unit, row);
        self.rows += 1;
        if self.group.rows >= ROWS_PER_GROUP || self.group.bytes >= BYTES_PER_GROUP {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    pub fn finish(mut self) -> Result<(PathBuf, u64), ExportError> {
        self.flush()?;
        let parquet = |source| ExportError::Parquet { path: self.temporary.clone(), source };
        let file = self.writer.into_inner().map_err(parquet)?;
        let io = |source| ExportError::File { path: self.path.clone(), source };
        file.sync_all().map_err(io)?;
        std::fs::rename(&self.temporary, &self.path).map_err(io)?;
        Ok((self.path, self.rows))
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        if self.group.rows == 0 {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let parquet = |source| ExportError::Parquet { path: self.temporary.clone(), source };
        let mut row_group = self.writer.next_row_group().map_err(parquet)?;
        let mut index = 0;
        while let Some(mut column) = row_group.next_column().map_err(parquet)? {
            group.write(index, column.untyped()).map_err(parquet)?;
            column.close().map_err(parquet)?;
            index += 1;
        }
        row_group.close().map_err(parquet)?;
        Ok(())
    }
}

fn text(value: &str) -> ByteArray {
    ByteArray::from(value.as_bytes().to_vec())
}

impl Group {
    fn push(&mut self, origin: &Origin, name: &str, unit: &Unit, row: Row) {
        self.rows += 1;
        self.bytes += 64 + name.len();
        self.box_id.push(text(origin.box_id.as_str()));
        // Parquet keeps unsigned numbers in signed ones of the same width.
        self.point.push(row.point.0.cast_signed());
        self.point_name.push(text(name));
        self.unit.push(text(unit.as_str()));
        self.source_time.push(row.source_time.map(|WallTime(nanos)| nanos));
        self.gateway_time.push(row.gateway_time.0);
        self.quality.push(i32::from(row.quality.bits()));
        self.severity.push(text(match row.quality.severity() {
            Severity::Good => "good",
            Severity::Uncertain => "uncertain",
            Severity::Bad => "bad",
        }));
        self.push_value(row.value);
        self.contract.push(text(origin.contract.as_str()));
        self.stream.push(i32::from(origin.stream.0));
        self.batch_seq.push(origin.seq.0.cast_signed());
        self.batch.push(origin.batch.clone());
        self.trace_id.push(origin.trace_id.clone());
        self.boot.push(origin.boot.0.cast_signed());
        // 584 years fit.
        let since_boot = u64::try_from(origin.since_boot.as_nanos()).unwrap_or(u64::MAX);
        self.since_boot.push(since_boot.cast_signed());
    }

    fn push_value(&mut self, value: Option<Value>) {
        let (mut boolean, mut signed, mut unsigned) = (None, None, None);
        let (mut single, mut double) = (None, None);
        let (mut string, mut blob) = (None, None);
        match value {
            None => {}
            Some(Value::Bool(value)) => boolean = Some(value),
            Some(Value::I64(value)) => signed = Some(value),
            Some(Value::U64(value)) => unsigned = Some(value.cast_signed()),
            Some(Value::F32(value)) => single = Some(value),
            Some(Value::F64(value)) => double = Some(value),
            Some(Value::Text(value)) => string = Some(value),
            Some(Value::Bytes(value)) => blob = Some(value),
        }
        self.bytes += string.as_ref().map_or(0, String::len);
        self.bytes += blob.as_ref().map_or(0, bytes::Bytes::len);
        self.value_bool.push(boolean);
        self.value_i64.push(signed);
        self.value_u64.push(unsigned);
        self.value_f32.push(single);
        self.value_f64.push(double);
        self.value_text.push(string.map(|value| text(&value)));
        self.value_bytes.push(blob.map(ByteArray::from));
    }

    /// Writes the column at `index` of the schema.
    fn write(&self, index: usize, writer: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        match index {
            0 => required_text(writer, &self.box_id),
            1 => required_i32(writer, &self.point),
            2 => required_text(writer, &self.point_name),
            3 => required_text(writer, &self.unit),
            4 => optional_i64(writer, &self.source_time),
            5 => required_i64(writer, &self.gateway_time),
            6 => required_i32(writer, &self.quality),
            7 => required_text(writer, &self.severity),
            8 => match writer {
                ColumnWriter::BoolColumnWriter(typed) => {
                    let column = &self.value_bool;
                    typed.write_batch(&column.values, Some(&column.levels), None).map(|_| ())
                }
                _ => unreachable!("column 8 of the schema is boolean"),
            },
            9 => optional_i64(writer, &self.value_i64),
            10 => optional_i64(writer, &self.value_u64),
            11 => match writer {
                ColumnWriter::FloatColumnWriter(typed) => {
                    let column = &self.value_f32;
                    typed.write_batch(&column.values, Some(&column.levels), None).map(|_| ())
                }
                _ => unreachable!("column 11 of the schema is float"),
            },
            12 => match writer {
                ColumnWriter::DoubleColumnWriter(typed) => {
                    let column = &self.value_f64;
                    typed.write_batch(&column.values, Some(&column.levels), None).map(|_| ())
                }
                _ => unreachable!("column 12 of the schema is double"),
            },
            13 => optional_bytes(writer, &self.value_text),
            14 => optional_bytes(writer, &self.value_bytes),
            15 => required_text(writer, &self.contract),
            16 => required_i32(writer, &self.stream),
            17 => required_i64(writer, &self.batch_seq),
            18 => required_text(writer, &self.batch),
            19 => required_text(writer, &self.trace_id),
            20 => required_i32(writer, &self.boot),
            21 => required_i64(writer, &self.since_boot),
            _ => unreachable!("the schema has 22 columns"),
        }
    }
}

fn required_text(writer: &mut ColumnWriter<'_>, values: &[ByteArray]) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::ByteArrayColumnWriter(typed) => {
            typed.write_batch(values, None, None).map(|_| ())
        }
        _ => unreachable!("the schema says binary"),
    }
}

fn optional_bytes(
    writer: &mut ColumnWriter<'_>,
    column: &Optional<ByteArray>,
) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::ByteArrayColumnWriter(typed) => {
            typed.write_batch(&column.values, Some(&column.levels), None).map(|_| ())
        }
        _ => unreachable!("the schema says binary"),
    }
}

fn required_i32(writer: &mut ColumnWriter<'_>, values: &[i32]) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::Int32ColumnWriter(typed) => typed.write_batch(values, None, None).map(|_| ()),
        _ => unreachable!("the schema says int32"),
    }
}

fn required_i64(writer: &mut ColumnWriter<'_>, values: &[i64]) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::Int64ColumnWriter(typed) => typed.write_batch(values, None, None).map(|_| ()),
        _ => unreachable!("the schema says int64"),
    }
}

fn optional_i64(writer: &mut ColumnWriter<'_>, column: &Optional<i64>) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::Int64ColumnWriter(typed) => {
            typed.write_batch(&column.values, Some(&column.levels), None).map(|_| ())
        }
        _ => unreachable!("the schema says int64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::{PointId, Quality, Reason};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    fn row(value: Option<Value>) -> Row {
        Row {
            point: PointId(u32::MAX),
            source_time: value.as_ref().map(|_| WallTime(-5)),
            gateway_time: WallTime(1_700_000_000_000_000_000),
            quality: Quality::new(Severity::Bad, Reason::Stale),
            value,
        }
    }

    #[test]
    fn values_survive_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.parquet");
        let origin = Origin {
            box_id: BoxId::parse("box-1").unwrap(),
            contract: ContractId::parse("C-1").unwrap(),
            stream: StreamId(u16::MAX),
            seq: BatchSeq(9),
            batch: text("ab"),
            trace_id: text("cd"),
            boot: BootNumber(u32::MAX),
            since_boot: Duration::from_secs(3),
        };
        let nan = f64::from_bits(0x7FF8_0000_0000_1234);
        let values = [
            None,
            Some(Value::Bool(true)),
            Some(Value::I64(i64::MIN)),
            Some(Value::U64(u64::MAX)),
            Some(Value::F32(-0.0)),
            Some(Value::F64(nan)),
            Some(Value::Text("温度".to_owned())),
            Some(Value::Bytes(bytes::Bytes::from_static(&[0, 255]))),
        ];
        let mut file = ParquetFile::create(&path).unwrap();
        for value in &values {
            file.push(&origin, "a.b", &Unit::one(), row(value.clone())).unwrap();
        }
        assert!(!path.exists(), "no half file under the final name");
        assert_eq!(file.finish().unwrap().1, 8);
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let field = |row: usize, column: usize| rows[row].get_column_iter().nth(column).unwrap().1;
        use parquet::record::Field;
        assert_eq!(field(0, 4), &Field::Null);
        assert_eq!(field(0, 16), &Field::UShort(u16::MAX));
        assert_eq!(field(0, 20), &Field::UInt(u32::MAX));
        assert_eq!(field(0, 21), &Field::ULong(3_000_000_000));
        assert_eq!(field(1, 8), &Field::Bool(true));
        assert_eq!(field(2, 9), &Field::Long(i64::MIN));
        assert_eq!(field(3, 10), &Field::ULong(u64::MAX));
        assert!(matches!(field(4, 11), Field::Float(f) if f.to_bits() == (-0.0_f32).to_bits()));
        assert!(matches!(field(5, 12), Field::Double(f) if f.to_bits() == nan.to_bits()));
        assert_eq!(field(6, 13), &Field::Str("温度".to_owned()));
        assert!(matches!(field(7, 14), Field::Bytes(b) if b.data() == [0, 255]));
        for column in 8..15 {
            assert_eq!(field(0, column), &Field::Null);
        }
        assert_eq!(field(0, 1), &Field::UInt(u32::MAX));
        assert_eq!(field(0, 7), &Field::Str("bad".to_owned()));
        assert_eq!(field(7, 18), &Field::Str("ab".to_owned()));
        assert_eq!(field(7, 19), &Field::Str("cd".to_owned()));
    }
}
