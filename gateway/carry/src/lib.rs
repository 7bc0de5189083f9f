//! Batches on a medium, for boxes without a link: what a session would carry, in one file.
//!
//! - `format`: how the file stands in bytes, and its limits; `record`: what is sealed in it.
//! - `writer` (box) and `reader` (space): one record after the other, in bounded memory.
//! - `documents`: the space's public key for such files, and its receipt for what it has stored.
//!
//! Invariants: a file is sealed for one space, so a lost stick shows nothing but who wrote it for whom and how much;
//! its last record says how much there is, under the key with which the box is known to the space, so that a file
//! that was cut, changed or made by somebody else is told as such; a batch is released only by the space's receipt.
//!
//! Never here: which batches may leave, what the space has, files' names.
#![forbid(unsafe_code)]

mod documents;
mod format;
mod reader;
mod record;
mod writer;

pub use documents::{CarryKey, DocumentFault, KEY_BYTES_MAX, RECEIPT_BYTES_MAX, Receipt};
pub use format::{CarryFault, FILE_BYTES_MAX, HEADER_BYTES_MAX, Header, RECORDS_MAX, VERSION};
pub use reader::{CarryReader, Unopened};
pub use record::{Counts, End, RECORD_BYTES_MAX, Record};
pub use writer::{CarryWriter, END_ROOM_BYTES};
