//! Decoders of the policy engine: what a disk, the space or another party hands to it.

use super::point;
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, DatasetId, DescriptorTable, Now, PointId,
    PublicKey, Quality, Row, SignFault, Signer, Value, ValueType, WallTime,
};
use guan_policy::constraint::{Position, ReleaseVersion};
use guan_policy::negotiation::{Answer, Limits, Mandate, Message, Negotiation, Parties, Pid, Role};
use guan_policy::situation::LinkClass;
use guan_policy::{
    Contract, Means, Plan, Problem, Roster, Situation, Terms, TrustedKeys, Usage, canonical_json,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use std::sync::OnceLock;
use std::time::Duration;

/// 2027-01-15T08:00:00Z.
const NOW_S: i64 = 1_800_000_000;

/// Signed contracts.
pub fn contract(data: &[u8]) -> bool {
    static KEYS: OnceLock<TrustedKeys> = OnceLock::new();
    // The keys of the golden contract: seeds of 32 times 1 (consumer) and 2 (provider).
    let keys = KEYS.get_or_init(|| {
        let key = |hex: &str| {
            let mut key = [0; 32];
            for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
                let digits = std::str::from_utf8(digits).expect("hex digits");
                *byte = u8::from_str_radix(digits, 16).expect("hex digits");
            }
            guan_model::PublicKey::Ed25519(key)
        };
        let consumer = key("8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
        let provider = key("8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394");
        let keys = vec![("space-1".to_owned(), consumer), ("depot-7".to_owned(), provider)];
        TrustedKeys::new(keys).expect("valid keys")
    });
    match Contract::parse(data, keys) {
        Ok(_) => true,
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            false
        }
    }
}

/// Contracts that nobody has signed yet; whatever is accepted must compile and decide.
pub fn draft(data: &[u8]) -> bool {
    static TABLE: OnceLock<DescriptorTable> = OnceLock::new();
    static BATCH: OnceLock<Batch> = OnceLock::new();
    let contract = match Contract::draft(data) {
        Ok(contract) => contract,
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            return false;
        }
    };
    let table = TABLE.get_or_init(table);
    let batch = BATCH.get_or_init(|| rows_of_all_types(table));
    let now = now();
    let mut situation = situation();
    survives_conversion(&contract);
    let plan = Plan::compile(&[contract], table);
    let (mut usage, mut entropy) = (Usage::default(), || 0x0123_4567_89AB_CDEF);
    let mut means =
        Means { pseudonym_key: &|_| Some([7; 32]), ..Means::plain(&mut usage, &mut entropy) };
    let decision = plan.decide(&situation, &mut means, batch.clone());
    situation.now.wall = now.wall.saturating_add(Duration::from_secs(86_400 * 40));
    let flushed = plan.flush(&situation, &mut means, |_| batch.header.clone());
    assert!(decision.refused_rows() <= batch.rows() as u64);
    for permitted in decision.permitted.iter().chain(&flushed.permitted) {
        assert!(permitted.batch.rows() <= batch.rows(), "a form adds no rows");
        let bytes = permitted.terms.encode();
        let again = Terms::decode(&bytes).expect("what was just encoded");
        let asked = Some(&permitted.terms).filter(|terms| !terms.is_free());
        assert_eq!(again.as_ref(), asked, "terms survive");
        permitted.terms.judge(&situation, BootNumber(2));
    }
    true
}

/// Whatever is accepted means the same in the other form, unless it is too large for that.
fn survives_conversion(contract: &Contract) {
    for written in [contract.to_tds(), contract.to_odrl()] {
        let Err(error) = written else { continue };
        let is_too_large = |problem: &Problem| {
            matches!(
                problem,
                Problem::TooLong { .. } | Problem::TooDeep { .. } | Problem::TooMany { .. }
            )
        };
        assert!(error.faults.iter().any(|fault| is_too_large(&fault.problem)), "{error}");
    }
}

/// What must hold when a batch leaves, as the spool keeps it.
pub fn terms(data: &[u8]) -> bool {
    let Ok(Some(terms)) = Terms::decode(data) else { return false };
    let again = Terms::decode(&terms.encode()).expect("what was just encoded");
    let asked = Some(&terms).filter(|terms| !terms.is_free());
    assert_eq!(again.as_ref(), asked, "terms survive");
    assert_eq!(terms.conditions(), terms.conditions());
    let mut situation = situation();
    for boot in [BootNumber(1), BootNumber(2)] {
        terms.judge(&situation, boot);
        situation.now.wall = WallTime(i64::MAX);
        situation.now.quality = ClockQuality::Unset;
        situation.link = Some(LinkClass::Metered);
        situation.attested = Some(2);
        situation.release = ReleaseVersion::parse("1.2");
    }
    true
}

/// Snapshots and deltas of what contracts have used up. Deciding must go on with whatever was read.
pub fn usage(data: &[u8]) -> bool {
    static PLANS: OnceLock<(Vec<Plan>, Batch)> = OnceLock::new();
    let (plans, batch) = PLANS.get_or_init(|| {
        let table = table();
        let plan = |json: &[u8]| {
            let contract = Contract::draft(json).expect("a contract of the corpus");
            Plan::compile(&[contract], &table)
        };
        let counted = plan(include_bytes!("../../fuzz/corpus/draft/counted.json"));
        let forms = plan(include_bytes!("../../fuzz/corpus/draft/forms.json"));
        let groups = plan(include_bytes!("../../fuzz/corpus/draft/groups.json"));
        (vec![counted, forms, groups], rows_of_all_types(&table))
    });
    let mut usage = Usage::default();
    if usage.replay(data).is_err() {
        return false;
    }
    assert!(!usage.is_dirty(), "what was read is durable");
    let snapshot = usage.snapshot();
    let mut again = Usage::default();
    again.replay(&snapshot).expect("what was just written");
    assert_eq!(again.snapshot(), snapshot, "a snapshot survives");
    assert_eq!(again.len(), usage.len());
    for plan in plans {
        decide(plan, batch, &mut again);
        again.rollback();
        assert_eq!(again.snapshot(), snapshot, "a commit that is undone leaves nothing");
    }
    !usage.is_empty()
}

/// One decision, and the windows that end later.
fn decide(plan: &Plan, batch: &Batch, usage: &mut Usage) {
    let mut situation = situation();
    let mut entropy = || 0x0123_4567_89AB_CDEF;
    let mut means =
        Means { pseudonym_key: &|_| Some([7; 32]), ..Means::plain(usage, &mut entropy) };
    plan.decide(&situation, &mut means, batch.clone());
    situation.now.wall = situation.now.wall.saturating_add(Duration::from_secs(86_400 * 40));
    plan.flush(&situation, &mut means, |_| batch.header.clone());
}

/// The space that signs contract sets here.
pub struct Space(Ed25519KeyPair);

impl Space {
    #[expect(clippy::new_without_default, reason = "a key is made, not assumed")]
    pub fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[5; 32]).expect("any seed is a key"))
    }
}

impl Signer for Space {
    fn name(&self) -> &str {
        "space-1"
    }

    fn public_key(&self) -> PublicKey {
        let key = self.0.public_key().as_ref();
        PublicKey::Ed25519(key.try_into().expect("a key of Ed25519 has 32 bytes"))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

/// What a stick brings: a carrier that was read is written as it was.
pub fn carrier(data: &[u8]) -> bool {
    let Ok(carrier) = guan_policy::Carrier::parse(data) else { return false };
    let written = carrier.encode().expect("what was read is within the limits");
    assert_eq!(guan_policy::Carrier::parse(&written).expect("it was just written"), carrier);
    true
}

/// Contract sets as they come, and with the signature that a space would put under them.
pub fn roster(data: &[u8]) -> bool {
    static SPACE: OnceLock<(Space, TrustedKeys)> = OnceLock::new();
    let (space, keys) = SPACE.get_or_init(|| {
        let space = Space::new();
        let keys = vec![("space-1".to_owned(), space.public_key())];
        (space, TrustedKeys::new(keys).expect("a valid key"))
    });
    let as_it_is = Roster::parse(data, keys);
    if let Err(fault) = &as_it_is {
        assert!(!fault.to_string().is_empty());
    }
    let Some(signed) = signed_anew(data, space) else { return as_it_is.is_ok() };
    let Ok(roster) = Roster::parse(&signed, keys) else {
        assert!(as_it_is.is_err(), "a set that was signed can be signed again");
        return false;
    };
    let written = roster.sign(space).expect("the key signs");
    let again = Roster::parse(&written, keys).expect("what was just signed");
    // It is written to the second.
    assert_eq!(again.issued, WallTime::from_seconds(roster.issued.0.div_euclid(1_000_000_000)));
    assert_eq!(Roster { issued: roster.issued, ..again }, roster, "a set survives");
    true
}

/// The set with a signature that fits whatever was done to it.
fn signed_anew(data: &[u8], space: &Space) -> Option<Vec<u8>> {
    let mut file: serde_json::Value = serde_json::from_slice(data).ok()?;
    let set = canonical_json(file.get("set")?);
    let message = [b"guan-contract-set/1\n", &set[..]].concat();
    let signature = space.sign(&message).expect("the key signs");
    let signature = json!(base64(&signature));
    *file.pointer_mut("/signatures/0/signature")? = signature;
    Some(file.to_string().into_bytes())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |number: u32| char::from(DIGITS[(number & 63) as usize]);
    let group = |group: &[u8]| {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digits = [18, 12, 6, 0].map(|shift| digit(number >> shift));
        let used = digits.into_iter().take(group.len() + 1);
        used.chain("==".chars().take(3 - group.len())).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// Messages of a negotiation and answers to them; each message also begins a negotiation.
pub fn message(data: &[u8]) -> bool {
    let mut any = false;
    if let Ok(answer) = Answer::read(data) {
        let pid = Pid::parse("urn:uuid:1").expect("a valid pid");
        let again = match &answer {
            Answer::Accepted(Some(ack)) => ack.to_json(),
            Answer::Refused(Some(rejection)) => rejection.to_json(&pid, &pid),
            other => unreachable!("{other:?} has no body"),
        };
        assert_eq!(Answer::read(&again), Ok(answer), "an answer survives");
        any = true;
    }
    let Ok(message) = Message::read(data) else { return any };
    let again = Message::read(message.to_json()).expect("what was just written");
    assert_eq!(again, message, "a message survives");
    for role in [Role::Consumer, Role::Provider] {
        let pid = message.pid(role).cloned();
        let pid = pid.unwrap_or_else(|| Pid::parse("urn:uuid:own").expect("a valid pid"));
        let parties = Parties::new(role, pid, "peer", "https://example.org/dsp");
        let parties = parties.expect("valid names");
        let begun = Negotiation::begin(now(), parties, &message, Limits::default());
        let Ok((mut end, ack)) = begun else { continue };
        assert_eq!(end.handle_message(now(), &message), Ok(ack), "one message, one answer");
        survives(&end);
    }
    true
}

/// A negotiation goes through its record unchanged.
fn survives(end: &Negotiation) {
    let again = Negotiation::from_record(now(), &end.to_record(now()), Limits::default());
    assert_eq!(again.as_ref(), Ok(end), "a negotiation survives");
}

/// Records of negotiations, and what the machine does with what they say.
pub fn record(data: &[u8]) -> bool {
    let Ok(mut end) = Negotiation::from_record(now(), data, Limits::default()) else {
        return false;
    };
    survives(&end);
    if let Some(sent) = end.poll_message(now()) {
        let read = Message::read(sent.message.to_json());
        assert_eq!(read.as_ref(), Ok(&sent.message), "what is sent can be read");
    }
    survives(&end);
    end.contract_file();
    let later = Now { monotonic: Duration::from_secs(u64::from(u32::MAX)), ..now() };
    end.handle_timeout(later);
    end.poll_message(later);
    true
}

/// What a box may agree to alone, judging contracts.
pub fn mandate(data: &[u8]) -> bool {
    static DRAFTS: OnceLock<Vec<Contract>> = OnceLock::new();
    let drafts = DRAFTS.get_or_init(|| {
        let files: [&[u8]; 4] = [
            include_bytes!("../../fuzz/corpus/draft/settled.json"),
            include_bytes!("../../fuzz/corpus/draft/forms.json"),
            include_bytes!("../../fuzz/corpus/draft/groups.json"),
            include_bytes!("../../fuzz/corpus/draft/first.json"),
        ];
        let drafts = files.map(|json| Contract::draft(json).expect("a contract of the corpus"));
        drafts.to_vec()
    });
    let Ok(mandate) = Mandate::read(data) else { return false };
    for draft in drafts {
        assert!(!mandate.judge(draft).to_string().is_empty());
    }
    true
}

/// Four points of one dataset.
fn table() -> DescriptorTable {
    let names = ["A.x", "A.z", "B.y", "C"];
    let points = (1..).zip(names).map(|(id, name)| point(id, name, ValueType::F64));
    DescriptorTable::new(points.collect()).expect("points of their own")
}

fn now() -> Now {
    Now {
        wall: WallTime::from_seconds(NOW_S),
        monotonic: Duration::from_secs(60),
        quality: ClockQuality::Rtc,
    }
}

/// A box that knows where it is and that it may.
fn situation() -> Situation {
    let mut situation = Situation::at(now());
    situation.track.note(now().wall, Position::new(31.2, 121.4).expect("on the globe"));
    (situation.consent, situation.secure_boot) = (Some(true), Some(true));
    situation
}

/// Each point has a value of each type, and none.
fn rows_of_all_types(table: &DescriptorTable) -> Batch {
    let values = [
        None,
        Some(Value::Bool(true)),
        Some(Value::I64(i64::MIN)),
        Some(Value::U64(u64::MAX)),
        Some(Value::F32(7.5)),
        Some(Value::F64(f64::NAN)),
        Some(Value::F64(12.25)),
        Some(Value::Text("N31".to_owned())),
        Some(Value::Bytes(vec![0xFF, 0].into())),
    ];
    let row = |(place, (id, value)): (i64, (u32, &Option<Value>))| Row {
        point: PointId(id),
        source_time: Some(WallTime::from_seconds(NOW_S - place % 7)),
        gateway_time: WallTime(WallTime::from_seconds(NOW_S).0 + place),
        quality: Quality::GOOD,
        value: value.clone(),
    };
    let header = BatchHeader {
        dataset: DatasetId::parse("d").expect("a valid name"),
        contract: None,
        descriptors: table.digest(),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    };
    let pairs = (1..=5).flat_map(|id| values.iter().map(move |value| (id, value)));
    Batch::from_rows(header, (0..).zip(pairs).map(row)).expect("within the limits")
}
