//! Why bytes are no batch. Whoever sent them is to blame.

use guan_model::BatchFault;
use guan_model::bytes_io::ReadFault;
use guan_model::descriptor::{TABLE_BYTES_MAX, TableReadFault};

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    #[error("the bytes do not begin a batch of this version")]
    Magic,
    #[error("the batch has {length} bytes; the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("the batch announces {announced} plain bytes and holds {found}")]
    Length { announced: usize, found: usize },
    #[error("the batch cannot be inflated")]
    Inflate,
    #[error("the batch is cut short or malformed")]
    Read(#[from] ReadFault),
    #[error("the {what} of the batch is not valid")]
    Value { what: &'static str },
    #[error("the {column} column has the unknown encoding {code}")]
    Encoding { column: &'static str, code: u8 },
    #[error("a column holds another number of values than the batch has rows")]
    Count,
    #[error("the series do not make a batch")]
    Batch(#[from] BatchFault),
}

/// Why bytes are no descriptor table.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    #[error("the descriptor table cannot be inflated to at most {TABLE_BYTES_MAX} bytes")]
    Inflate,
    #[error(transparent)]
    Table(#[from] TableReadFault),
}
