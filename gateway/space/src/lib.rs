//! The program guan-space: receives, stores, acknowledges, exports.
#![forbid(unsafe_code)]
