//! Three values: a rule about a place that is not known is neither kept nor broken.
//!
//! Kleene's strong logic. A permission needs `True`; a prohibition fires on `True` and on `Unknown`.

/// Ordered so that "and" is the least and "or" the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Truth {
    False = 0,
    Unknown = 1,
    True = 2,
}

impl Truth {
    pub const ALL: [Self; 3] = [Self::False, Self::Unknown, Self::True];

    pub fn name(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::Unknown => "unknown",
            Self::True => "true",
        }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// `Unknown` when there is nothing to ask.
    pub fn of(known: Option<bool>) -> Self {
        known.map_or(Self::Unknown, Self::from)
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

/// Exactly one of several; `Unknown` as long as the open ones could decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExactlyOne {
    trues: u32,
    unknowns: u32,
}

impl ExactlyOne {
    pub fn note(&mut self, truth: Truth) {
        self.trues += u32::from(truth == Truth::True);
        self.unknowns += u32::from(truth == Truth::Unknown);
    }

    pub fn truth(self) -> Truth {
        match (self.trues, self.unknowns) {
            (2.., _) => Truth::False,
            (_, 1..) => Truth::Unknown,
            (trues, 0) => Truth::from(trues == 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A formula over unknowns is known only if every way to fill them in agrees.
    #[test]
    fn unknown_means_that_both_could_be() {
        let fill = |truth: Truth| match truth {
            Truth::Unknown => vec![Truth::False, Truth::True],
            known => vec![known],
        };
        for a in Truth::ALL {
            for b in Truth::ALL {
                let mut one = ExactlyOne::default();
                one.note(a);
                one.note(b);
                let mut answers: Vec<[Truth; 3]> = Vec::new();
                for x in fill(a) {
                    for y in fill(b) {
                        let exactly = (x == Truth::True) != (y == Truth::True);
                        answers.push([x.and(y), x.or(y), exactly.into()]);
                    }
                }
                for (place, ours) in [a.and(b), a.or(b), one.truth()].into_iter().enumerate() {
                    let agree = answers.iter().all(|answer| answer[place] == answers[0][place]);
                    let expect = if agree { answers[0][place] } else { Truth::Unknown };
                    assert_eq!(ours, expect, "{a:?} {b:?} at {place}");
                }
            }
        }
    }

    #[test]
    fn more_than_one_is_false_whatever_is_open() {
        let mut one = ExactlyOne::default();
        for truth in [Truth::True, Truth::Unknown, Truth::True] {
            one.note(truth);
        }
        assert_eq!(one.truth(), Truth::False);
    }
}
