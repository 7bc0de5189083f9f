//! Contract to compiled plan to decision and transformed batch.
#![forbid(unsafe_code)]
