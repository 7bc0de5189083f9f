//! Keys, certificates and the small CA; TLS configurations of both ends.
#![forbid(unsafe_code)]
