//! One arena for the memory of `guan run`.
//!
//! glibc gives every thread that allocates an arena of its own, and none of them lends to another: 8 MB more at
//! full rate. It reads their number from the environment, before `main`, so the program starts itself anew, once,
//! as the same process. Whoever sets the number himself keeps it; where it cannot be done, nothing else changes.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

const ARENAS: &str = "MALLOC_ARENA_MAX";
/// glibc's other way to say it.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Returns only if the number is set, or cannot be.
pub(super) fn limit() -> io::Result<()> {
    if [ARENAS, TUNABLES].iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    let mut again = Command::new(env::current_exe()?);
    let mut words = env::args_os();
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    Err(again.args(words).env(ARENAS, "1").exec())
}
