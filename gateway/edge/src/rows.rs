//! The rows of one message, between decoder and engine.

use guan_model::Row;
use smallvec::SmallVec;

/// Mostly it is one, which needs no memory of its own: it would be taken on one thread and given back on another.
pub type Rows = SmallVec<[Row; 1]>;
