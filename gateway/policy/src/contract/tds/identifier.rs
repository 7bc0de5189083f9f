//! The number of a contract: 47 characters in seven parts, the last of which checks the others.
//!
//! The check is MOD 37-2 of GB/T 17710 (ISO 7064): of the digits and capital letters as 0 to 35, and
//! `*` as 36, each times two to the power of its distance from the right, the sum is 1 modulo 37.

use guan_model::{ContractId, IdFault};
use std::fmt;

/// Characters of a number.
pub const IDENTIFIER_CHARS: usize = 47;
/// Where the parts begin: kind, kind of node, subject, region or trade, time, random, check.
const STARTS: [usize; 8] = [0, 1, 2, 20, 24, 38, 46, 47];
/// Modulus of the check, and value of its last character.
const MODULUS: u32 = 37;
const STAR: u32 = 36;

/// Why a text is no number of a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierFault {
    #[error(
        "a contract's number has {IDENTIFIER_CHARS} characters, this has {length}; copy it again"
    )]
    Length { length: usize },
    #[error(
        "{character:?} at place {place} is neither a digit nor a capital letter; copy it again"
    )]
    Character { character: char, place: usize },
    #[error("{found:?} at places 25 to 38 is no time such as 20261124080000; copy it again")]
    Time { found: String },
    #[error(
        "the check character is {found:?}, of the others it is {expect:?}; copy the number again"
    )]
    Check { found: char, expect: char },
}

/// A number, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identifier {
    text: String,
}

impl Identifier {
    pub fn parse(text: &str) -> Result<Self, IdentifierFault> {
        let length = text.chars().count();
        if length != IDENTIFIER_CHARS {
            return Err(IdentifierFault::Length { length });
        }
        let last = IDENTIFIER_CHARS - 1;
        for (place, character) in text.chars().enumerate() {
            let is_known = value(character).is_some_and(|value| value < STAR || place == last);
            if !is_known {
                return Err(IdentifierFault::Character { character, place: place + 1 });
            }
        }
        let found = &text[STARTS[4]..STARTS[5]];
        if super::value::civil(found).is_none() {
            return Err(IdentifierFault::Time { found: found.to_owned() });
        }
        let (expect, found) = (check_character(&text[..last]), text[last..].chars().next());
        match found {
            Some(found) if found != expect => Err(IdentifierFault::Check { found, expect }),
            _ => Ok(Self { text: text.to_owned() }),
        }
    }

    /// The number whose first 46 characters these are.
    pub fn checked(first: &str) -> Result<Self, IdentifierFault> {
        let length = first.chars().count();
        let ascii = first.is_ascii() && first.chars().all(|one| value(one).is_some());
        match ascii && length == IDENTIFIER_CHARS - 1 {
            true => Self::parse(&format!("{first}{}", check_character(first))),
            false => Self::parse(&format!("{first} ")),
        }
    }

    /// How a contract is called here. Names here have no `*`, which stands for it as `.`.
    pub fn contract_id(&self) -> Result<ContractId, IdFault> {
        ContractId::parse(&self.text.replace('*', "."))
    }

    /// The number of a contract that is called by one.
    pub fn of(id: &ContractId) -> Option<Self> {
        let text = id.as_str();
        let text = text.strip_suffix('.').map_or(text.to_owned(), |rest| format!("{rest}*"));
        Self::parse(&text).ok()
    }

    fn part(&self, place: usize) -> &str {
        &self.text[STARTS[place]..STARTS[place + 1]]
    }

    /// What the number is of.
    pub fn kind(&self) -> &str {
        self.part(0)
    }

    /// Which kind of node gave it.
    pub fn node_kind(&self) -> &str {
        self.part(1)
    }

    /// Whose node gave it.
    pub fn subject(&self) -> &str {
        self.part(2)
    }

    /// Region (GB/T 2260) or trade of the node.
    pub fn area(&self) -> &str {
        self.part(3)
    }

    /// When it was given, as the node's clock showed it, such as `20261124080000`.
    pub fn time(&self) -> &str {
        self.part(4)
    }

    pub fn random(&self) -> &str {
        self.part(5)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn value(character: char) -> Option<u32> {
    match character {
        '0'..='9' => Some(u32::from(character) - u32::from('0')),
        'A'..='Z' => Some(u32::from(character) - u32::from('A') + 10),
        '*' => Some(STAR),
        _ => None,
    }
}

/// Of characters that have a value each.
fn check_character(first: &str) -> char {
    let sum = first.chars().filter_map(value).fold(0, |sum, value| (sum + value) * 2 % MODULUS);
    let check = (MODULUS + 1 - sum) % MODULUS;
    match check {
        STAR => '*',
        _ => char::from_digit(check, 36).expect("below 36").to_ascii_uppercase(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number that a platform could have given.
    pub(crate) fn identifier(random: u32) -> Identifier {
        let first = format!("8491310000MA1FL5XQ3K310020261124080000{random:08X}");
        Identifier::checked(&first).unwrap()
    }

    #[test]
    fn parts() {
        let id = identifier(0xA1B2);
        assert_eq!((id.kind(), id.node_kind(), id.area()), ("8", "4", "3100"));
        assert_eq!((id.subject(), id.time()), ("91310000MA1FL5XQ3K", "20261124080000"));
        assert_eq!(id.random(), "0000A1B2");
        assert_eq!(id.to_string().len(), IDENTIFIER_CHARS);
    }

    /// A published example of MOD 37-2, and the two ends of its values.
    #[test]
    fn check_characters() {
        assert_eq!(check_character("G123489654321"), 'Y');
        assert_eq!(check_character(""), '1');
        assert_eq!(check_character("J"), '0');
        assert_eq!(check_character("1"), '*');
    }

    fn check(text: &str, expect: IdentifierFault) {
        assert_eq!(Identifier::parse(text), Err(expect), "{text}");
    }

    #[test]
    fn what_is_no_number() {
        let right = identifier(1).to_string();
        check("", IdentifierFault::Length { length: 0 });
        check(&right[1..], IdentifierFault::Length { length: 46 });
        check(&format!("{right}0"), IdentifierFault::Length { length: 48 });
        let small = right.replace('M', "m");
        check(&small, IdentifierFault::Character { character: 'm', place: 11 });
        let starred = format!("*{}", &right[1..]);
        check(&starred, IdentifierFault::Character { character: '*', place: 1 });
        let found = "20261324080000".to_owned();
        check(&right.replace("20261124080000", &found), IdentifierFault::Time { found });
        assert!(Identifier::checked(&right[..45]).is_err());
        assert!(Identifier::checked(&right.replace('M', "\u{e9}")[..46]).is_err());
    }

    #[test]
    fn stars_have_another_name_here() {
        let starred = (0..).map(identifier).find(|id| id.to_string().ends_with('*')).unwrap();
        let id = starred.contract_id().unwrap();
        assert!(id.as_str().ends_with('.'));
        assert_eq!(Identifier::of(&id), Some(starred));
        assert_eq!(Identifier::of(&ContractId::parse("depot-2026-01").unwrap()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Every single wrong character and every swap of neighbours is found.
        #[test]
        fn slips_are_found(random: u32, place in 0..47_usize, other in 0..36_u32) {
            let right = identifier(random).to_string();
            let mut wrong: Vec<char> = right.chars().collect();
            wrong[place] = char::from_digit(other, 36).unwrap().to_ascii_uppercase();
            let wrong: String = wrong.into_iter().collect();
            prop_assert_eq!(Identifier::parse(&wrong).is_ok(), wrong == right);
            let mut swapped: Vec<char> = right.chars().collect();
            swapped.swap(place.min(45), place.min(45) + 1);
            let swapped: String = swapped.into_iter().collect();
            prop_assert_eq!(Identifier::parse(&swapped).is_ok(), swapped == right);
        }
    }
}
