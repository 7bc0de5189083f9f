//! The body of an `add-checkpoint` request: `old SIZE`, the consistency proof with one hash a line, an
//! empty line, the checkpoint.

use crate::checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint};
use crate::text::{self, LineFault};
use guan_model::Digest;
use std::fmt;

/// Most hashes of the proof, by the specification.
pub const PROOF_LINES_MAX: usize = 63;
/// Longest body that is read: a full proof and the largest checkpoint.
pub const REQUEST_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + 4096;

/// Why a body is no request; the client is to blame, and gets status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("the request has {length} bytes; the limit is {REQUEST_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the request is not UTF-8")]
    Utf8,
    #[error("the request has no empty line before the checkpoint")]
    NoCheckpoint,
    #[error("the first line is not `old` and a size without leading zeros")]
    OldSize,
    #[error("the proof has more than {PROOF_LINES_MAX} hashes")]
    TooManyHashes,
    #[error("line {line} of the proof is no hash in base64")]
    Hash { line: usize },
}

/// A log asks for a cosignature of its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the head that the witness cosigned last, as far as the log knows.
    pub old_size: u64,
    /// That the new head continues that one.
    pub proof: Vec<Digest>,
    /// The signed note.
    pub checkpoint: String,
}

impl AddCheckpoint {
    pub fn parse(body: &[u8]) -> Result<Self, RequestFault> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestFault::TooLong { length: body.len() });
        }
        let body = std::str::from_utf8(body).map_err(|_| RequestFault::Utf8)?;
        let (head, checkpoint) = body.split_once("\n\n").ok_or(RequestFault::NoCheckpoint)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old_size = old.and_then(text::parse_number).ok_or(RequestFault::OldSize)?;
        let proof = text::parse_hashes(lines, PROOF_LINES_MAX).map_err(|fault| match fault {
            LineFault::TooMany => RequestFault::TooManyHashes,
            LineFault::Hash { line } => RequestFault::Hash { line },
        })?;
        Ok(Self { old_size, proof, checkpoint: checkpoint.to_owned() })
    }

    /// The log of which the request speaks, to find its [`super::Witness`]; `None` if it is malformed.
    pub fn origin(&self) -> Option<String> {
        Checkpoint::parse_unverified(&self.checkpoint).ok().map(|checkpoint| checkpoint.origin)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        text::write_hashes(f, &self.proof)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the specification.
    const EXAMPLE: &str = "old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
";

    fn check(body: &str, expect: RequestFault) {
        assert_eq!(AddCheckpoint::parse(body.as_bytes()), Err(expect), "for {body:?}");
    }

    #[test]
    fn example_of_the_specification() {
        let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((request.old_size, request.proof.len()), (20_852_014, 4));
        assert_eq!(request.origin().as_deref(), Some("example.com/behind-the-sofa"));
        assert_eq!(request.to_string(), EXAMPLE);
    }

    #[test]
    fn malformed_bodies_are_refused() {
        check("", RequestFault::NoCheckpoint);
        check("old 1\n", RequestFault::NoCheckpoint);
        check("old 01\n\no\n", RequestFault::OldSize);
        check("old +1\n\no\n", RequestFault::OldSize);
        check("old  1\n\no\n", RequestFault::OldSize);
        check("old 18446744073709551616\n\no\n", RequestFault::OldSize);
        check("new 1\n\no\n", RequestFault::OldSize);
        check("old 1\r\n\r\n\n\n", RequestFault::OldSize);
        check("old 1\nAAAA\n\no\n", RequestFault::Hash { line: 1 });
        let loose = EXAMPLE.replace("kaw=", "kax=");
        check(&loose, RequestFault::Hash { line: 1 });
        assert_eq!(AddCheckpoint::parse(&[0xFF]), Err(RequestFault::Utf8));
    }

    #[test]
    fn limits_are_exact() {
        let with = |count: usize| AddCheckpoint {
            old_size: u64::MAX,
            proof: vec![Digest([7; 32]); count],
            checkpoint: "x".repeat(CHECKPOINT_BYTES_MAX),
        };
        let full = with(PROOF_LINES_MAX);
        assert!(full.to_string().len() <= REQUEST_BYTES_MAX, "every request fits");
        assert_eq!(AddCheckpoint::parse(full.to_string().as_bytes()), Ok(full));
        let over = with(PROOF_LINES_MAX + 1).to_string();
        check(&over, RequestFault::TooManyHashes);
        let long = format!("old 1\n\n{}", "x".repeat(REQUEST_BYTES_MAX - 7));
        assert!(AddCheckpoint::parse(long.as_bytes()).is_ok());
        let length = REQUEST_BYTES_MAX + 1;
        check(&format!("{long}x"), RequestFault::TooLong { length });
    }

    proptest! {
        #[test]
        fn what_parses_prints_to_the_same(body in "(old [0-9]{1,3}\n)?([A-Za-z+/]{43}=\n){0,2}\n?.{0,9}") {
            if let Ok(request) = AddCheckpoint::parse(body.as_bytes()) {
                prop_assert_eq!(request.to_string(), body);
            }
        }

        #[test]
        fn any_bytes_give_an_answer(body: Vec<u8>) {
            let _ = AddCheckpoint::parse(&body);
        }
    }
}
