//! Who did something, kept apart from the log that says it was done.
//!
//! A leaf carries only the commitment SHA-256(salt || actor). The opening, salt and actor, lies beside the log; once
//! it is gone nobody can say from the leaf who it was, and the leaf still proves. Its bytes are the salt followed by
//! the actor, so that `sha256sum` of an opening is the commitment.
//!
//! Never here: where openings are kept, random numbers.

use guan_model::Digest;
use std::fmt;
use std::sync::Arc;

/// Longest name of an actor.
pub const ACTOR_BYTES_MAX: usize = 128;
/// Long enough that nobody finds a name by trying names.
pub const SALT_BYTES: usize = 32;
/// Longest opening.
pub const OPENING_BYTES_MAX: usize = SALT_BYTES + ACTOR_BYTES_MAX;

/// Why something is no actor or no opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpeningFault {
    #[error("the name of an actor has {length} bytes; give 1 to {ACTOR_BYTES_MAX} bytes of UTF-8")]
    Length { length: usize },
    #[error("the name of an actor holds a control character; give one line of text")]
    Control,
    #[error("an opening has {length} bytes; it is a salt of {SALT_BYTES} bytes and a name")]
    Short { length: usize },
    #[error("the name of an actor is not UTF-8")]
    NotText,
}

/// The name of a person, a client or a party: 1 to 128 bytes, one line.
#[derive(Clone, PartialEq, Eq)]
pub struct Actor(Arc<str>);

impl Actor {
    pub fn parse(text: &str) -> Result<Self, OpeningFault> {
        if !(1..=ACTOR_BYTES_MAX).contains(&text.len()) {
            return Err(OpeningFault::Length { length: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(OpeningFault::Control);
        }
        Ok(Self(Arc::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names of people reach no log by accident.
impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Actor(..)")
    }
}

/// What opens a commitment.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    salt: [u8; SALT_BYTES],
    actor: Actor,
}

impl Opening {
    /// The salt is random and never used twice.
    pub fn new(salt: [u8; SALT_BYTES], actor: Actor) -> Self {
        Self { salt, actor }
    }

    /// What a leaf says in place of the actor.
    pub fn commitment(&self) -> Digest {
        Digest::of_parts(&[&self.salt, self.actor.as_str().as_bytes()])
    }

    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    pub fn encode(&self) -> Vec<u8> {
        [&self.salt, self.actor.as_str().as_bytes()].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, OpeningFault> {
        let short = OpeningFault::Short { length: bytes.len() };
        let (salt, actor) = bytes.split_first_chunk().ok_or(short)?;
        if !(1..=ACTOR_BYTES_MAX).contains(&actor.len()) {
            return Err(OpeningFault::Length { length: actor.len() });
        }
        let actor = std::str::from_utf8(actor).map_err(|_| OpeningFault::NotText)?;
        Ok(Self { salt: *salt, actor: Actor::parse(actor)? })
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_read_as_they_are_written() {
        let check = |name: &str, expect: Result<(), OpeningFault>| {
            let bytes = [&[7; SALT_BYTES], name.as_bytes()].concat();
            assert_eq!(Actor::parse(name).map(|_| ()), expect, "{name:?}");
            let opening = Opening::decode(&bytes);
            assert_eq!(opening.clone().map(|_| ()), expect, "{name:?}");
            if let Ok(opening) = opening {
                assert_eq!(opening.encode(), bytes);
                assert_eq!(opening.commitment(), Digest::of(&bytes), "sha256sum is the check");
            }
        };
        check("a", Ok(()));
        check("李工 <li@depot-7>", Ok(()));
        check(&"x".repeat(ACTOR_BYTES_MAX), Ok(()));
        let length = ACTOR_BYTES_MAX + 1;
        check(&"x".repeat(length), Err(OpeningFault::Length { length }));
        check("", Err(OpeningFault::Length { length: 0 }));
        check("two\nlines", Err(OpeningFault::Control));
        let short = SALT_BYTES - 1;
        assert_eq!(Opening::decode(&[0; 31]), Err(OpeningFault::Short { length: short }));
        assert_eq!(Opening::decode(&[0xFF; SALT_BYTES + 1]), Err(OpeningFault::NotText));
    }

    #[test]
    fn nothing_shows_a_name() {
        let opening = Opening::new([0; SALT_BYTES], Actor::parse("somebody").unwrap());
        assert!(!format!("{opening:?} {:?}", opening.actor()).contains("somebody"));
    }
}
