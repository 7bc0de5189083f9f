//! The one vocabulary of Guankou: what a reading, a point, a batch and a moment are.
//!
//! Every other crate speaks in these types and none may invent a second set. Values are checked when
//! they are made (`parse`, `new`), so a value that exists is valid.
//!
//! Never here: files, sockets, clocks, threads, environment, serialization frameworks.
#![forbid(unsafe_code)]

pub mod batch;
pub mod bytes_io;
pub mod cbor;
pub mod descriptor;
pub mod digest;
pub mod ids;
pub mod quality;
pub mod signer;
pub mod time;
pub mod units;
pub mod value;
pub mod window;

pub use batch::{Batch, BatchFault, BatchHeader, Column, ROWS_PER_BATCH_MAX, Row, Series};
pub use descriptor::{Class, DescriptorTable, PointDescriptor, Tag};
pub use digest::Digest;
pub use ids::{
    BatchSeq, BootNumber, BoxId, ContractId, DatasetId, IdFault, PointId, PointName, RuleId,
    SpoolId, StreamId,
};
pub use quality::{Quality, Reason, Severity};
pub use signer::{PublicKey, SignFault, Signer};
pub use time::{Clock, ClockQuality, Now, WallTime};
pub use units::{ByteCount, Unit};
pub use value::{Value, ValueType};
pub use window::WeekWindow;
