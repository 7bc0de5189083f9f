//! How much a box's identity is worth; it stands in the box's certificate.

use std::fmt;

/// Where the box's private key lives. Later is worth more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// A key in a file.
    Unattested,
    /// A TPM emulated in software: can be cloned, for development spaces only.
    Emulated,
    /// A TPM whose endorsement certificate leads to a pinned vendor.
    Hardware,
}

/// A text that names no tier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no tier; use \"unattested\", \"emulated\" or \"hardware\"")]
pub struct TierFault {
    text: String,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Unattested, Self::Emulated, Self::Hardware];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unattested => "unattested",
            Self::Emulated => "emulated",
            Self::Hardware => "hardware",
        }
    }

    pub fn parse(text: &str) -> Result<Self, TierFault> {
        let found = Self::ALL.into_iter().find(|tier| tier.name() == text);
        // A peer may have written the text: only its beginning is repeated.
        found.ok_or_else(|| TierFault { text: text.chars().take(32).collect() })
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_and_order_holds() {
        for tier in Tier::ALL {
            assert_eq!(Tier::parse(tier.name()), Ok(tier));
        }
        assert!(Tier::Unattested < Tier::Emulated && Tier::Emulated < Tier::Hardware);
    }

    #[test]
    fn other_texts_are_refused() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Tier::parse(text).unwrap_err().to_string(), expect);
        };
        let remedy = "is no tier; use \"unattested\", \"emulated\" or \"hardware\"";
        check("", &format!("\"\" {remedy}"));
        check("Hardware", &format!("\"Hardware\" {remedy}"));
        check(&"x".repeat(1000), &format!("{:?} {remedy}", "x".repeat(32)));
    }
}
