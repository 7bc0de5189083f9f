//! File descriptors of this process: each connection of a client takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit towards `wanted` as far as the hard limit allows; never lowers it. Returns what
/// is in force.
pub fn raise_descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let in_force = limit.current.unwrap_or(u64::MAX);
    let reachable = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    if in_force >= reachable {
        return in_force;
    }
    let raised = Rlimit { current: Some(reachable), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => reachable,
        // The caller sees that it has less than it wanted.
        Err(_) => in_force,
    }
}
