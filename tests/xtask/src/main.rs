//! The two commands of the project: demo and verify.
fn main() {}
