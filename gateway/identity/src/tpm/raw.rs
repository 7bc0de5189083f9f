//! Commands that tss-esapi 7.7 does not offer, as bytes (TPM 2.0, part 3): NV_Certify, NV_Extend,
//! NV_SetBits, PolicyNV, DictionaryAttackLockReset; and what must share a connection with them.
//!
//! The library's context cannot be reached from outside without `unsafe`, and handles of one context are
//! unknown to another behind a resource manager. So the attestation key is loaded here once more, over a
//! connection of our own that lives for one operation.

use super::fault::TpmFault;
use super::key_blob::KeyBlob;
use super::tcti::Tcti;
use crate::attest::{
    ATTEST_BYTES_MAX, BIT_CLEAR, EPOCHS_INDEX, StorePolicy, TpmClock, TpmReader, authorized_by,
    later_epochs, name_of, sealed_public, selection,
};
use guan_model::Digest;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use zeroize::Zeroizing;

const ST_NO_SESSIONS: u16 = 0x8001;
const ST_SESSIONS: u16 = 0x8002;
const CC_NV_SET_BITS: u32 = 0x135;
const CC_NV_EXTEND: u32 = 0x136;
const CC_LOCK_RESET: u32 = 0x139;
const CC_POLICY_NV: u32 = 0x149;
const CC_POLICY_SECRET: u32 = 0x151;
const CC_CREATE: u32 = 0x153;
const CC_LOAD: u32 = 0x157;
const CC_UNSEAL: u32 = 0x15E;
const CC_FLUSH: u32 = 0x165;
const CC_LOAD_EXTERNAL: u32 = 0x167;
const CC_POLICY_AUTHORIZE: u32 = 0x16A;
const CC_START_SESSION: u32 = 0x176;
const CC_VERIFY: u32 = 0x177;
const CC_POLICY_PCR: u32 = 0x17F;
const CC_READ_CLOCK: u32 = 0x181;
const CC_NV_CERTIFY: u32 = 0x184;
const RH_OWNER: u32 = 0x4000_0001;
const RH_NULL: u32 = 0x4000_0007;
const RS_PASSWORD: u32 = 0x4000_0009;
const RH_LOCKOUT: u32 = 0x4000_000A;
const RH_ENDORSEMENT: u32 = 0x4000_000B;
const ALG_NULL: [u8; 2] = [0, 0x10];
const ALG_SHA256: [u8; 2] = [0, 0x0B];
const ALG_ECDSA: [u8; 2] = [0, 0x18];
const COORDINATE_BYTES: usize = 32;
const SESSION_POLICY: u8 = 1;
const NONCE_BYTES: usize = 16;
/// Tag, length, code.
const HEADER_BYTES: usize = 10;
const RESPONSE_BYTES_MAX: usize = 4096;
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// What the TSS calls a connection that broke.
const TCTI_IO: u32 = 0xA_000A;

/// Who allows a command.
enum Allowed<'a> {
    Password(&'a [u8]),
    /// A policy session, which ends with the command.
    Session(u32),
}

const EMPTY: Allowed<'static> = Allowed::Password(&[]);

/// A connection for one operation.
pub(super) struct RawTpm {
    what: &'static str,
    stream: Box<dyn Stream>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("commands are short");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// What follows the header of an answer.
struct Answer {
    bytes: Vec<u8>,
    has_sessions: bool,
}

impl RawTpm {
    pub(super) fn open(tcti: &Tcti, what: &'static str) -> Result<Self, TpmFault> {
        let opened: io::Result<Box<dyn Stream>> = match tcti {
            Tcti::Device(path) => File::options()
                .read(true)
                .write(true)
                .open(path)
                .map(|file| Box::new(file) as Box<dyn Stream>),
            Tcti::Swtpm { host, port } => {
                TcpStream::connect((host.as_str(), *port)).and_then(|stream| {
                    stream.set_read_timeout(Some(ANSWER_WAIT))?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                })
            }
        };
        let absent = |_| TpmFault::Absent { tcti: tcti.to_string(), code: TCTI_IO };
        Ok(Self { what, stream: opened.map_err(absent)? })
    }

    /// One command; the handles come first, then who allows it, then the rest.
    fn execute(
        &mut self,
        code: u32,
        handles: &[u32],
        allowed: &[Allowed<'_>],
        rest: &[u8],
    ) -> Result<Answer, TpmFault> {
        let handles: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        let sessions = Zeroizing::new(allowed.iter().flat_map(session).collect::<Vec<u8>>());
        let (tag, area) = match allowed {
            [] => (ST_NO_SESSIONS, Zeroizing::new(Vec::new())),
            _ => {
                let length = u32::try_from(sessions.len()).expect("two sessions at most");
                (ST_SESSIONS, Zeroizing::new([&length.to_be_bytes()[..], &sessions].concat()))
            }
        };
        let length = HEADER_BYTES + handles.len() + area.len() + rest.len();
        let length = u32::try_from(length).expect("commands are short").to_be_bytes();
        let parts = [&tag.to_be_bytes()[..], &length, &code.to_be_bytes(), &handles, &area, rest];
        // One write: the kernel takes each write for a whole command.
        let command = Zeroizing::new(parts.concat());
        let io = |_| TpmFault::Io { what: self.what, code: TCTI_IO };
        self.stream.write_all(&command).map_err(io)?;
        let mut response = vec![0; RESPONSE_BYTES_MAX];
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut response[filled..]).map_err(io)?;
            filled += read;
            let expected = response.get(2..6).filter(|_| filled >= HEADER_BYTES);
            let expected = expected.and_then(|bytes| bytes.try_into().ok().map(u32::from_be_bytes));
            if expected.is_some_and(|expected| filled >= expected as usize) {
                break;
            }
            if read == 0 {
                return Err(io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        response.truncate(filled);
        self.answer(&response)
    }

    fn answer(&self, response: &[u8]) -> Result<Answer, TpmFault> {
        let what = self.what;
        let unreadable = |source| TpmFault::Answer { what, source };
        let mut reader = TpmReader::new(response);
        let tag = reader.u16("the answer's tag").map_err(unreadable)?;
        reader.u32("the answer's length").map_err(unreadable)?;
        match reader.u32("the answer's code").map_err(unreadable)? {
            0 => Ok(Answer {
                bytes: response[HEADER_BYTES..].to_vec(),
                has_sessions: tag == ST_SESSIONS,
            }),
            code => Err(TpmFault::of_code(what, code)),
        }
    }

    fn handle(&self, answer: &Answer) -> Result<u32, TpmFault> {
        let source = |source| TpmFault::Answer { what: self.what, source };
        TpmReader::new(&answer.bytes).u32("the answer's handle").map_err(source)
    }

    fn policy_session(&mut self) -> Result<u32, TpmFault> {
        let parts = [&sized(&[0; NONCE_BYTES])[..], &sized(&[]), &[SESSION_POLICY]];
        let rest = [&parts.concat()[..], &ALG_NULL, &ALG_SHA256].concat();
        let started = self.execute(CC_START_SESSION, &[RH_NULL, RH_NULL], &[], &rest)?;
        self.handle(&started)
    }

    /// A session that the standard EK's policy is content with.
    fn endorsement_session(&mut self) -> Result<u32, TpmFault> {
        let session = self.policy_session()?;
        let no_limits = [sized(&[]), sized(&[]), sized(&[]), 0_u32.to_be_bytes().to_vec()].concat();
        let handles = [RH_ENDORSEMENT, session];
        match self.execute(CC_POLICY_SECRET, &handles, &[EMPTY], &no_limits) {
            Ok(_) => Ok(session),
            Err(fault) => {
                self.flush(session);
                Err(fault)
            }
        }
    }

    /// What cannot be flushed now goes with the connection, or at the next start.
    fn flush(&mut self, handle: u32) {
        let _ = self.execute(CC_FLUSH, &[], &[], &handle.to_be_bytes());
    }

    fn load(&mut self, ek: u32, blob: &KeyBlob) -> Result<u32, TpmFault> {
        let session = self.endorsement_session()?;
        let rest = [sized(&blob.private), sized(&blob.public)].concat();
        match self.execute(CC_LOAD, &[ek], &[Allowed::Session(session)], &rest) {
            Ok(loaded) => self.handle(&loaded),
            Err(fault) => {
                self.flush(session);
                Err(fault)
            }
        }
    }

    /// The attestation key's word on the contents of an index: TPMS_ATTEST and TPMT_SIGNATURE.
    pub(super) fn certify_nv(
        &mut self,
        ek: u32,
        key: &KeyBlob,
        index: u32,
        size: u16,
        qualifying: &[u8; 32],
    ) -> Result<(Vec<u8>, Vec<u8>), TpmFault> {
        let key = self.load(ek, key)?;
        let from_start = 0_u16.to_be_bytes();
        let rest = [&sized(qualifying)[..], &ALG_NULL, &size.to_be_bytes(), &from_start].concat();
        let answer = self.execute(CC_NV_CERTIFY, &[key, index, index], &[EMPTY, EMPTY], &rest);
        self.flush(key);
        self.certified(&answer?).map_err(|source| TpmFault::Answer { what: self.what, source })
    }

    fn certified(
        &self,
        answer: &Answer,
    ) -> Result<(Vec<u8>, Vec<u8>), crate::attest::TpmBytesFault> {
        let mut reader = TpmReader::new(&answer.bytes);
        let length = match answer.has_sessions {
            true => reader.u32("the answer's parameters")? as usize,
            false => answer.bytes.len(),
        };
        let mut parameters = TpmReader::new(reader.take(length, "the answer's parameters")?);
        let statement = parameters.sized("the certification")?;
        if statement.len() > ATTEST_BYTES_MAX {
            let (count, limit) = (statement.len() as u64, ATTEST_BYTES_MAX as u64);
            let what = "the certification";
            return Err(crate::attest::TpmBytesFault::Count { what, count, limit });
        }
        let signature = parameters.rest();
        Ok((statement.to_vec(), signature.to_vec()))
    }

    /// Seals a secret under the storage root key, for whatever `release_key` (TPMT_PUBLIC) signs.
    pub(super) fn seal(
        &mut self,
        parent: u32,
        secret: &[u8],
        release_key: &[u8],
    ) -> Result<KeyBlob, TpmFault> {
        let public = sealed_public(&authorized_by(&name_of(release_key)));
        let sensitive = Zeroizing::new([sized(&[]), sized(secret)].concat());
        let no_pcrs = 0_u32.to_be_bytes().to_vec();
        let parts = [sized(&sensitive), sized(&public), sized(&[]), no_pcrs];
        let rest = Zeroizing::new(parts.concat());
        let answer = self.execute(CC_CREATE, &[parent], &[EMPTY], &rest)?;
        let read = || {
            let mut reader = TpmReader::new(&answer.bytes);
            reader.u32("the answer's parameters")?;
            let private = reader.sized("the sealed part")?.to_vec();
            let public = reader.sized("the public part")?.to_vec();
            Ok(KeyBlob { public, private })
        };
        read().map_err(|source| TpmFault::Answer { what: self.what, source })
    }

    /// Opens what [`seal`](Self::seal) made, under a policy whose PCRs are those of now.
    pub(super) fn unseal(
        &mut self,
        parent: u32,
        blob: &KeyBlob,
        release_key: &[u8],
        policy: &StorePolicy,
    ) -> Result<Zeroizing<Vec<u8>>, TpmFault> {
        // First, because a TPM that was cleared has forgotten the epochs too.
        let rest = [sized(&blob.private), sized(&blob.public)].concat();
        let loaded = self.execute(CC_LOAD, &[parent], &[EMPTY], &rest)?;
        let item = self.handle(&loaded)?;
        let opened = self.open_item(item, release_key, policy);
        self.flush(item);
        let answer = opened?;
        let bytes = Zeroizing::new(answer.bytes);
        let mut reader = TpmReader::new(&bytes);
        let unreadable = |source| TpmFault::Answer { what: self.what, source };
        reader.u32("the answer's parameters").map_err(unreadable)?;
        let secret = reader.sized("the secret").map_err(unreadable)?;
        Ok(Zeroizing::new(secret.to_vec()))
    }

    fn open_item(
        &mut self,
        item: u32,
        release_key: &[u8],
        policy: &StorePolicy,
    ) -> Result<Answer, TpmFault> {
        let session = self.policy_session()?;
        let opened = self
            .satisfy(session, release_key, policy)
            .and_then(|()| self.execute(CC_UNSEAL, &[item], &[Allowed::Session(session)], &[]));
        if opened.is_err() {
            self.flush(session);
        }
        opened
    }

    /// Brings a session to where the release key's signature says that it may be.
    fn satisfy(
        &mut self,
        session: u32,
        release_key: &[u8],
        policy: &StorePolicy,
    ) -> Result<(), TpmFault> {
        let pcrs = [sized(&[]), selection(&policy.pcrs)].concat();
        self.execute(CC_POLICY_PCR, &[session], &[], &pcrs)?;
        let operand = sized(&later_epochs(policy.epoch));
        let compared = [&operand[..], &[0, 0], &BIT_CLEAR.to_be_bytes()].concat();
        let handles = [EPOCHS_INDEX, EPOCHS_INDEX, session];
        self.execute(CC_POLICY_NV, &handles, &[EMPTY], &compared)?;
        let rest = [sized(&[]), sized(release_key), RH_OWNER.to_be_bytes().to_vec()].concat();
        let loaded = self.execute(CC_LOAD_EXTERNAL, &[], &[], &rest)?;
        let key = self.handle(&loaded)?;
        let approved = policy.approved();
        let (r, s) = policy.signature().as_bytes().split_at(COORDINATE_BYTES);
        let signature = [&ALG_ECDSA[..], &ALG_SHA256, &sized(r), &sized(s)].concat();
        let digest = Digest::of(&approved.0);
        let rest = [sized(&digest.0), signature].concat();
        let verified = self.execute(CC_VERIFY, &[key], &[], &rest);
        self.flush(key);
        // All that is left of the answer is the ticket.
        let ticket = verified?.bytes;
        let name = name_of(release_key);
        let rest = [sized(&approved.0), sized(&[]), sized(&name), ticket].concat();
        self.execute(CC_POLICY_AUTHORIZE, &[session], &[], &rest).map(drop)
    }

    /// Sets the bits of all epochs up to this one.
    pub(super) fn set_epoch(&mut self, epoch: u8) -> Result<(), TpmFault> {
        let bits = later_epochs(epoch).map(|byte| !byte);
        // Bit 0 belongs to no epoch: it marks the index as written.
        self.execute(CC_NV_SET_BITS, &[EPOCHS_INDEX, EPOCHS_INDEX], &[EMPTY], &bits).map(drop)
    }

    /// The TPM's time and its counts of resets.
    pub(super) fn read_clock(&mut self) -> Result<TpmClock, TpmFault> {
        let answer = self.execute(CC_READ_CLOCK, &[], &[], &[])?;
        let read = || {
            let mut reader = TpmReader::new(&answer.bytes);
            reader.u64("the time since power on")?;
            Ok(TpmClock {
                clock_ms: reader.u64("the clock")?,
                resets: reader.u32("the count of resets")?,
                restarts: reader.u32("the count of restarts")?,
                is_safe: reader.u8("the clock's safety")? == 1,
            })
        };
        read().map_err(|source| TpmFault::Answer { what: self.what, source })
    }

    /// Puts more into an index that only grows.
    pub(super) fn extend_nv(&mut self, index: u32, bytes: &[u8]) -> Result<(), TpmFault> {
        self.execute(CC_NV_EXTEND, &[index, index], &[EMPTY], &sized(bytes)).map(drop)
    }

    /// Forgives wrong passwords. Once: a wrong lockout password locks this out too.
    pub(super) fn reset_lockout(&mut self, password: &[u8]) -> Result<(), TpmFault> {
        self.execute(CC_LOCK_RESET, &[RH_LOCKOUT], &[Allowed::Password(password)], &[]).map(drop)
    }
}

/// TPMS_AUTH_COMMAND.
fn session(allowed: &Allowed<'_>) -> Vec<u8> {
    let (handle, password): (u32, &[u8]) = match allowed {
        Allowed::Password(password) => (RS_PASSWORD, password),
        Allowed::Session(handle) => (*handle, &[]),
    };
    [&handle.to_be_bytes()[..], &sized(&[]), &[0], &sized(password)].concat()
}
