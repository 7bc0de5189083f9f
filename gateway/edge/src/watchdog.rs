//! Ends a program whose TPM hangs, so that the supervisor starts it anew; a few times an hour at most, as each
//! start may count against the TPM's lockout.
//!
//! What cannot be helped by a restart goes on without the TPM: readings are kept, nothing is sent.

use guan_identity::tpm::{HANG_AFTER, Tpm};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// Restarts within [`RESTART_WINDOW`]; after them the program goes on without its TPM.
pub const RESTARTS_MAX: usize = 3;
pub const RESTART_WINDOW: Duration = Duration::from_secs(3600);
/// In `box.state_dir`: when this program ended over its TPM, a line each, in seconds since 1970.
const RESTARTS_FILE: &str = "tpm-restarts";
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be done about a TPM that hangs.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Restart,
    /// It did not help so often that it will not now.
    GoOn,
}

/// The restarts that still count, and whether one more is allowed.
fn decide(text: &str, now_s: i64) -> (Vec<i64>, Decision) {
    let window = i64::try_from(RESTART_WINDOW.as_secs()).expect("an hour");
    let recent = text.lines().filter_map(|line| line.trim().parse::<i64>().ok());
    // A moment of the future comes from a clock that was wrong, and counts for nothing.
    let mut recent: Vec<i64> = recent.filter(|at| (now_s - window..=now_s).contains(at)).collect();
    match recent.len() < RESTARTS_MAX {
        true => {
            recent.push(now_s);
            (recent, Decision::Restart)
        }
        false => (recent, Decision::GoOn),
    }
}

fn ask_for_restart(state_dir: &Path, now_s: i64) -> io::Result<Decision> {
    let path = state_dir.join(RESTARTS_FILE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let (recent, decision) = decide(&text, now_s);
    if decision == Decision::Restart {
        let lines: String = recent.iter().map(|at| format!("{at}\n")).collect();
        crate::upkeep::replace(&path, &lines)?;
    }
    Ok(decision)
}

/// Watches one TPM; comes to an end when the program should.
pub struct Watchdog {
    pub tpm: Tpm,
    pub state_dir: PathBuf,
    pub now_s: Box<dyn Fn() -> i64 + Send + Sync>,
    pub alarm: crate::prover::Alarm,
}

impl Watchdog {
    pub async fn run(self) {
        let mut has_told = false;
        loop {
            sleep(LOOK_INTERVAL).await;
            if !self.tpm.is_hung() {
                has_told = false;
                continue;
            }
            if has_told {
                continue;
            }
            has_told = true;
            let hung = format!("the TPM has not answered for {} s", HANG_AFTER.as_secs());
            match ask_for_restart(&self.state_dir, (self.now_s)()) {
                Ok(Decision::Restart) => {
                    (self.alarm)(format!("{hung}: guan ends, so that it is started anew"));
                    return;
                }
                Ok(Decision::GoOn) => (self.alarm)(format!(
                    "{hung}, and {RESTARTS_MAX} restarts within an hour did not help: readings are kept, \
                     nothing is sent; switch the box off and on"
                )),
                Err(fault) => (self.alarm)(format!("{hung}; restarts cannot be counted: {fault}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_restarts_an_hour_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |now_s| ask_for_restart(folder.path(), now_s).unwrap();
        for now_s in [1000, 1010, 1020] {
            assert_eq!(ask(now_s), Decision::Restart);
        }
        assert_eq!((ask(1030), ask(4600)), (Decision::GoOn, Decision::GoOn));
        // The first of them is more than an hour ago.
        assert_eq!((ask(4601), ask(4602)), (Decision::Restart, Decision::GoOn));
    }

    #[test]
    fn what_is_no_time_of_the_last_hour_counts_for_nothing() {
        let check =
            |text: &str, expect: Decision| assert_eq!(decide(text, 5000).1, expect, "{text}");
        check("", Decision::Restart);
        check("4000\n4001\n4002\n", Decision::GoOn);
        check("4000\n4001\n5001\n", Decision::Restart);
        check("4000\nx\n-1\n\n4002\n", Decision::Restart);
    }
}
