//! What is wrong with a contract file: every fault at once, each with its place and a remedy.

use std::fmt;

/// Most faults that one report lists; a file with more is no contract at all.
pub const FAULTS_MAX: usize = 64;
/// Longest piece of the file that a fault repeats, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// One thing that is wrong. The author of the file is to blame, except where the text says else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the file has {length} bytes, the limit is {limit}; split it")]
    TooLong { length: usize, limit: usize },
    #[error("not JSON: {detail}; correct the syntax")]
    Syntax { detail: String },
    #[error("nested deeper than {limit}; no term of a contract is")]
    TooDeep { limit: usize },
    #[error("this key stands twice; keep one")]
    DuplicateKey,
    #[error("null and numbers that are not integers within 2^53 - 1 cannot be signed; replace it")]
    NotCanonical,
    #[error("unknown key; remove it or correct its name")]
    UnknownKey,
    #[error("missing; add it")]
    Missing,
    #[error("not {expected}")]
    Type { expected: &'static str },
    #[error("{found:?} is not known here, use {known}")]
    UnknownTerm { found: String, known: &'static str },
    #[error("not understood; see `guan contract vocabulary`")]
    NotUnderstood,
    #[error("{detail}")]
    Name { detail: String },
    #[error("empty; name at least one")]
    Empty,
    #[error("has {length} characters, the limit is {limit}; shorten it")]
    TooManyCharacters { length: usize, limit: usize },
    #[error("has {count} entries, the limit is {limit}")]
    TooMany { count: usize, limit: usize },
    #[error("{found:?} stands twice; keep one")]
    Duplicate { found: String },
    #[error("{found:?} is not a time such as 2026-01-01T00:00:00Z, in UTC, from 1678 to 2261")]
    Time { found: String },
    #[error(
        "{found:?} is not a duration such as PT72H or P7D; months and years have no fixed length"
    )]
    Duration { found: String },
    #[error("not_after is not later than not_before; the contract would never be valid")]
    Interval,
    #[error("{found:?} is masked but not among the points; add it there or remove it here")]
    MaskNotCovered { found: String },
    #[error("the number {found} is not a version; versions start at 1")]
    Version { found: i64 },
    #[error(
        "{found:?} is not decided on the box, so the contract would not be kept; remove the \
         constraint, or see `guan contract vocabulary`"
    )]
    UnknownOperand { found: String },
    #[error("{operand} cannot be asked with {found}; use {known}")]
    Operator { operand: &'static str, found: &'static str, known: &'static str },
    #[error(
        "mixes what is known when a reading comes with what is known when it leaves, under one `or` \
         or `xone`; write two rules"
    )]
    MixedMoments,
    #[error("{found} is not from 1 to {limit}")]
    Limit { found: u64, limit: u64 },
    #[error("{name} is not a number from {low} to {high}")]
    Range { name: String, low: String, high: String },
    #[error("the refinement {name} is missing; add it")]
    MissingParameter { name: String },
    #[error("the refinement {name} is not known for this action; remove it or correct its name")]
    UnknownParameter { name: String },
    #[error("not hours of a day such as 08:00 to 18:00 on at least one weekday")]
    Window,
    #[error(
        "the region {code:?} has no border here; give a circle or a polygon in WGS-84 or CGCS2000"
    )]
    RegionCode { code: String },
    #[error(
        "{operand} is answered where the data is used, not on this box; put it into a rule of its \
         own whose actions this box does not perform (not deliver, collect, store or use)"
    )]
    Elsewhere { operand: &'static str },
    #[error(
        "{found:?} is a local time and nothing says of which zone; write an offset, or name an IANA \
         zone as \"zone\" in the extension urn:guankou:odrl:1"
    )]
    NoZone { found: String },
    #[error("{detail}")]
    Number { detail: crate::contract::tds::IdentifierFault },
    #[error(
        "{found} asks for a transformation and nothing says which; list it as a duty in the \
         extension urn:guankou:odrl:1 of the policy"
    )]
    WithoutParameters { found: &'static str },
    #[error("both {first} and {second} are given; they mean the same, keep one")]
    TwoSpellings { first: &'static str, second: &'static str },
    #[error("the contract ended or was never signed (status {found}); it grants nothing")]
    Ended { found: String },
    #[error("a contract has exactly one {role} here; split it into contracts of two parties")]
    OneParty { role: &'static str },
    #[error("differs from what another policy of the contract says; let all say the same")]
    Differs,
    #[error(
        "an obligation holds always here; write what it depends on into its duty in the extension \
         urn:guankou:odrl:1"
    )]
    ObligationConstraint,
    #[error(
        "nothing in this policy counts by a period; remove it, or count, dataSize or frequency"
    )]
    PeriodOfNothing,
    #[error(
        "the contract does not survive the change of form, which is a defect of guan; report it \
         with the file"
    )]
    Conversion,
    #[error(
        "not a circle with latitude, longitude and radius_m, nor a polygon of 3 to {vertices_max} \
         vertices [latitude, longitude] that does not span the date line"
    )]
    Area { vertices_max: usize },
    #[error("a {shape} has no such member; remove it, or correct the type")]
    OtherShape { shape: &'static str },
    #[error("all corners lie on one line, so nothing lies inside; correct them")]
    Line,
    #[error("both by and after are given; keep one")]
    TwoDeadlines,
    #[error(
        "{found:?} is no name of a point; write a name, a path that ends in .*, or * alone: a * \
         elsewhere is about nothing"
    )]
    Pattern { found: String },
    #[error("low is not below high")]
    EmptyRange,
    #[error("edges must be numbers that grow")]
    Edges,
    #[error("budget is smaller than epsilon; no value could ever leave")]
    NoiseBudget,
    #[error("the Gaussian mechanism needs an epsilon below 1; lower it or use laplace")]
    GaussianEpsilon,
    #[error(
        "noise on {point:?} has no clamp, so nothing bounds what one reading can reveal; add one"
    )]
    NoiseUnbounded { point: String },
    #[error(
        "noise on the count of a group: nothing bounds how many readings one point gives, so no noise \
         hides them; count without `into`, or leave the noise out"
    )]
    NoiseOnGroupCount,
    #[error(
        "results leave on {point:?}, which the duty itself covers; name the points that are to be \
         aggregated as dataField, and another one as into"
    )]
    IntoCovered { point: String },
    #[error(
        "minContributors asks for different points, so it needs into; name the point of the results"
    )]
    ContributorsOfOne,
    #[error("another aggregate of the rule leaves on {point:?}, too; give each a point of its own")]
    IntoTwice { point: String },
    #[error(
        "{step} is about some of what is aggregated into {point:?}, or about {point:?} itself; a result \
         takes the steps of the points behind it, so cover all of them by one pattern each, or none"
    )]
    GroupInPart { point: String, step: &'static str },
    #[error("{point:?} is transformed twice at the step {step}; keep one")]
    TwoTransforms { point: String, step: &'static str },
    #[error("can never be true in the term of the contract; correct it or remove the rule")]
    Unsatisfiable,
    #[error("the prohibition {prohibition} forbids all that this permits; remove one of them")]
    Contradiction { prohibition: String },
    #[error("provider and consumer are the same; a contract binds two parties")]
    SameParty,
    #[error("no rule permits or forbids anything; add a permission")]
    NoRules,
    #[error("retain asks to keep the data for longer than delete allows; correct one of them")]
    RetainBeyondDelete,
    #[error(
        "acknowledgeUse is asked for every {found} s, the shortest period is {limit} s; ask for a \
         longer one"
    )]
    PeriodTooShort { found: u64, limit: u64 },
    #[error(
        "a rate cannot be part of a prohibition: what is forbidden uses none of it up, so it would \
         never change; put `rate lteq` into the permission"
    )]
    RateInProhibition,
    #[error(
        "neither of the three forms of a contract: ODRL (with @type, profile, assigner), \
         TC609-6-2025-14 (with contractId) or schema 1 (with id, provider, points); see \
         `guan contract vocabulary`"
    )]
    Form,
    #[error(
        "{found:?} is no context that is known here; use http://www.w3.org/ns/odrl.jsonld or \
         {own}: another could give the words another meaning"
    )]
    Context { found: String, own: &'static str },
    #[error("the file has more than {limit} bytes; split it")]
    FileTooLong { limit: usize },
    #[error("a fraction cannot be signed as a number; write it as the text \"{found}\"")]
    Fraction { found: String },
    #[error("two rules have the id {found:?}; give each its own")]
    DuplicateRule { found: String },
    #[error("transformations belong to a permission: they are the form in which it lets data go")]
    TransformOutsidePermission,
    #[error("not a base64 signature of 64 bytes; sign the contract again")]
    Signature,
    #[error(
        "the signature of {party:?} with key {key_id} does not fit; the contract was altered \
         after signing"
    )]
    Forged { party: String, key_id: String },
    #[error("key {key_id} belongs to {owner:?}, not to {party:?}; let the right party sign")]
    WrongParty { key_id: String, owner: String, party: String },
    #[error(
        "no trusted key of {party:?} has signed (unknown keys: {unknown}); have it signed, or the \
         operator adds the key"
    )]
    NotSigned { party: String, unknown: String },
    #[error("{party:?} is neither provider nor consumer of the contract; sign as one of them")]
    NotAParty { party: String },
    #[error("the key failed: {detail}")]
    Signer { detail: String },
}

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractFault {
    /// JSON pointer (RFC 6901) into the file; empty for the whole file.
    pub pointer: String,
    pub problem: Problem,
}

impl fmt::Display for ContractFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "{}", self.problem),
            pointer => write!(f, "{pointer}: {}", self.problem),
        }
    }
}

/// Why a file is not accepted as a contract: at least one fault, at most [`FAULTS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractError {
    pub faults: Vec<ContractFault>,
    /// There were more faults than are listed.
    pub truncated: bool,
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the contract is refused")?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        if self.truncated { f.write_str("\n  and more") } else { Ok(()) }
    }
}

impl std::error::Error for ContractError {}

/// Collects faults while a file is read to its end.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<ContractFault>,
    truncated: bool,
}

impl Faults {
    pub fn add(&mut self, pointer: &str, problem: Problem) {
        if self.faults.len() == FAULTS_MAX {
            self.truncated = true;
            return;
        }
        self.faults.push(ContractFault { pointer: pointer.to_owned(), problem });
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether something is said about this very place.
    pub(crate) fn is_at(&self, pointer: &str) -> bool {
        self.faults.iter().any(|fault| fault.pointer == pointer)
    }

    /// Whether something is said about a place or what stands in it.
    pub(crate) fn is_within(&self, pointer: &str) -> bool {
        self.faults.iter().any(|fault| {
            let rest = fault.pointer.strip_prefix(pointer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.faults.len()
    }

    /// For what could not be read: if nothing was said about it, then that it was not.
    pub(crate) fn add_if_none_since(&mut self, before: usize, pointer: &str) {
        // A null in it was noted when the text was parsed.
        let is_within = |fault: &ContractFault| fault.pointer.starts_with(pointer);
        if self.faults.len() == before && !self.truncated && !self.faults.iter().any(is_within) {
            self.add(pointer, Problem::NotUnderstood);
        }
    }

    /// Takes over the faults of a document that stands in this one.
    pub(crate) fn absorb(&mut self, pointer: &str, inner: Self) {
        for fault in inner.faults {
            self.add(&format!("{pointer}{}", fault.pointer), fault.problem);
        }
        self.truncated |= inner.truncated;
    }

    /// The value, unless something is wrong with the file.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ContractError> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => {
                assert!(!self.faults.is_empty(), "a missing value has a fault that says why");
                Err(ContractError { faults: self.faults, truncated: self.truncated })
            }
        }
    }
}

/// A piece of the file, short enough to be repeated.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push('\u{2026}');
    }
    out
}

/// The pointer to a member of what `parent` points to (RFC 6901, section 3).
pub fn child(parent: &str, key: &str) -> String {
    format!("{parent}/{}", shown(key).replace('~', "~0").replace('/', "~1"))
}
