//! The program guan-space: receives, stores, acknowledges, exports.
#![forbid(unsafe_code)]

pub mod init;
pub mod parquet_file;
pub mod registry;
