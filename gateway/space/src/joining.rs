//! The endpoint where boxes join: one stream a connection, four messages, one certificate.

use crate::alarms::Alarms;
use crate::registry::{Enrolment, Registry, TokenRecord, TpmRecord};
use guan_identity::join::{
    Grant, JOIN_EXPORTER_LABEL, JOIN_MESSAGE_BYTES_MAX, JoinAnswer, JoinRequest, JoinSecret,
    JoinToken, Maker, join_binding, judge,
};
use guan_identity::{SmallCa, Tier, read_certificates};
use guan_link::driver::describe;
use guan_model::{BoxId, Digest, PublicKey, WallTime};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Boxes that join at the same time.
pub const JOINS_MAX: usize = 16;
/// Longest for all four messages: the TPM has to make and load keys.
pub const JOIN_WAIT: Duration = Duration::from_secs(60);
/// Life of a box's certificate; it is renewed at two thirds.
pub const CERTIFICATE_DAYS: u32 = 30;
/// The last words must arrive before the connection is closed.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What the joining endpoint needs.
pub struct Joining {
    pub endpoint: quinn::Endpoint,
    pub registry: Registry,
    pub authority: Arc<SmallCa>,
    pub makers: Vec<Maker>,
    pub accepted: Vec<Tier>,
    pub clock: fn() -> WallTime,
    pub alarms: Alarms,
}

/// Why a box did not join; told to it.
type Refusal = String;

impl Joining {
    /// Runs until it is stopped.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let room = Arc::new(Semaphore::new(JOINS_MAX));
        loop {
            let incoming = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                incoming = this.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                tracing::warn!(limit = JOINS_MAX, "too many boxes join at once");
                incoming.refuse();
                continue;
            };
            let this = this.clone();
            tokio::spawn(async move {
                let address = incoming.remote_address();
                match timeout(JOIN_WAIT, this.serve(incoming)).await {
                    Ok(Ok(box_id)) => tracing::info!(%box_id, %address, "a box has joined"),
                    Ok(Err(fault)) => tracing::warn!(%address, %fault, "a box did not join"),
                    Err(_) => tracing::warn!(%address, "a box took too long to join"),
                }
                drop(permit);
            });
        }
        this.endpoint.close(0_u8.into(), b"the space stops");
    }

    async fn serve(self: &Arc<Self>, incoming: quinn::Incoming) -> Result<BoxId, String> {
        let connection = incoming.await.map_err(|fault| fault.to_string())?;
        let (mut out, mut input) =
            connection.accept_bi().await.map_err(|fault| fault.to_string())?;
        let joined = self.converse(&connection, &mut out, &mut input).await;
        if let Err(Stop::Refused(text)) = &joined {
            let answer = JoinAnswer::Refused { text: text.clone() };
            send(&mut out, &answer.encode()).await?;
        }
        let _ = out.finish();
        // The box closes when it has read the answer.
        let _ = timeout(CLOSE_WAIT, connection.closed()).await;
        joined.map_err(|stop| match stop {
            Stop::Refused(text) | Stop::Broken(text) => text,
        })
    }

    async fn converse(
        self: &Arc<Self>,
        connection: &quinn::Connection,
        out: &mut quinn::SendStream,
        input: &mut quinn::RecvStream,
    ) -> Result<BoxId, Stop> {
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, JOIN_EXPORTER_LABEL, &[])
            .map_err(|_| Stop::Broken("the connection offers no exporter".to_owned()))?;
        let bytes = receive(input).await.map_err(Stop::Broken)?;
        let request = JoinRequest::decode(&bytes).map_err(|fault| refused(&fault))?;
        let token = JoinToken::digest(&request.token);
        let this = self.clone();
        let (request, pending) = blocking(move || {
            let grant = this.grant(&token)?;
            let binding = join_binding(&exporter, &request.token);
            let now = (this.clock)();
            let pending = judge(&request, &grant, &this.makers, &this.accepted, &binding, now);
            Ok((request, pending.map_err(|fault| describe(&fault))?))
        })
        .await?;
        let challenge = JoinAnswer::Challenge(pending.challenge.clone());
        send(out, &challenge.encode()).await.map_err(Stop::Broken)?;
        let bytes = receive(input).await.map_err(Stop::Broken)?;
        let secret = JoinSecret::decode(&bytes).map_err(|fault| refused(&fault))?;
        let enrolled = pending.confirm(&secret.secret).map_err(|fault| refused(&fault))?;
        let this = self.clone();
        let (box_id, answer) = blocking(move || {
            let tpm = TpmRecord {
                endorsement: enrolled.endorsement.to_string(),
                attestation_key: point(&enrolled.ak),
                earlier_keys: Vec::new(),
                tls_key: point(&enrolled.tls_key),
                next: None,
                last: None,
            };
            this.enrol(&request, &token, enrolled.tier, tpm, &secret)
        })
        .await?;
        send(out, &answer.encode()).await.map_err(Stop::Broken)?;
        Ok(box_id)
    }

    fn grant(&self, token: &Digest) -> Result<Grant, Refusal> {
        let record = self.registry.find_token(token).map_err(|fault| {
            tracing::error!(%fault, "the registry cannot be read");
            "the space cannot read its registry; come again".to_owned()
        })?;
        let record = record.ok_or("the token is unknown, or was used; ask for a new one")?;
        read_grant(&record)
            .ok_or_else(|| "the token's record is damaged; ask for a new one".to_owned())
    }

    /// A box that was worth more before is not the same box.
    fn check_fall(&self, box_id: &BoxId, tier: Tier) -> Result<(), Refusal> {
        let before = self.registry.find(box_id).ok().flatten();
        let before = before.and_then(|enrolment| Tier::parse(&enrolment.tier).ok());
        let Some(before) = before.filter(|before| *before > tier) else { return Ok(()) };
        let text = format!(
            "box {box_id} was enrolled as {before} and shows up as {tier}: join under a new name"
        );
        self.alarms.raise(box_id, &text);
        Err(text)
    }

    /// A box whose TPM is another than before is another box, unless the operator has named that TPM.
    fn check_exchange(
        &self,
        box_id: &BoxId,
        tpm: &TpmRecord,
        token: &Digest,
    ) -> Result<(), Refusal> {
        let before = self.registry.find(box_id).ok().flatten().filter(|before| !before.revoked);
        let before = before.and_then(|before| before.tpm);
        let is_other = before.is_some_and(|before| before.endorsement != tpm.endorsement);
        if !is_other || self.grant(token)?.endorsement.is_some() {
            return Ok(());
        }
        let endorsement = &tpm.endorsement;
        let text = format!(
            "box {box_id} is known with another TPM: if it was exchanged, ask for a token that names this \
             one (--ek {endorsement}), or have the old box revoked"
        );
        self.alarms.raise(box_id, &text);
        Err(text)
    }

    fn enrol(
        &self,
        request: &JoinRequest,
        token: &Digest,
        tier: Tier,
        tpm: TpmRecord,
        kept: &JoinSecret,
    ) -> Result<(BoxId, JoinAnswer), Refusal> {
        let now = (self.clock)();
        let box_id = request.box_id.clone();
        self.check_fall(&box_id, tier)?;
        self.check_exchange(&box_id, &tpm, token)?;
        let issued =
            self.authority.issue_box(&request.request, &box_id, tier, now, CERTIFICATE_DAYS);
        let certificate_pem = issued.map_err(|fault| describe(&fault))?;
        let chain = read_certificates(&certificate_pem).map_err(|fault| fault.to_string())?;
        let before = self.registry.find(&box_id).map_err(|fault| {
            tracing::error!(%box_id, %fault, "the registry cannot be read");
            "the space cannot read its registry; come again".to_owned()
        })?;
        let tpm = tpm.after(before.and_then(|before| before.tpm));
        let enrolment = Enrolment {
            tier: tier.name().to_owned(),
            fingerprint: Digest::of(&chain[0]).to_string(),
            enrolled_at_s: now.millis() / 1000,
            revoked: false,
            tpm: Some(tpm),
            demand: false,
            retirement: None,
            store_policy: None,
        };
        let is_first = self.registry.enrol_with_token(token, &box_id, &enrolment, kept);
        match is_first {
            Ok(true) => {}
            Ok(false) => return Err("the token was used meanwhile; ask for a new one".to_owned()),
            Err(fault) => {
                tracing::error!(%box_id, %fault, "the registry cannot be written");
                return Err("the space cannot write its registry; come again".to_owned());
            }
        }
        let authority_pem = self.authority.certificate_pem();
        Ok((box_id, JoinAnswer::Issued { certificate_pem, authority_pem, tier }))
    }
}

enum Stop {
    /// The box is told.
    Refused(Refusal),
    /// There is nobody to tell.
    Broken(String),
}

fn refused(fault: &dyn std::error::Error) -> Stop {
    Stop::Refused(describe(fault))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Stop> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err("the space failed; come again".to_owned())).map_err(Stop::Refused)
}

pub(crate) fn point(key: &PublicKey) -> String {
    match key {
        PublicKey::EcdsaP256(point) => hex::encode(point),
        PublicKey::Ed25519(key) => hex::encode(key),
    }
}

/// What a kept token allows.
fn read_grant(record: &TokenRecord) -> Option<Grant> {
    let endorsement = match &record.endorsement {
        Some((digest, tier)) => Some((Digest::from_hex(digest)?, Tier::parse(tier).ok()?)),
        None => None,
    };
    Some(Grant {
        box_id: BoxId::parse(&record.box_id).ok()?,
        expires_at: WallTime::from_seconds(record.expires_at_s),
        endorsement,
    })
}

async fn send(out: &mut quinn::SendStream, bytes: &[u8]) -> Result<(), String> {
    let length = u32::try_from(bytes.len()).expect("our messages are short");
    let framed = [&length.to_be_bytes()[..], bytes].concat();
    out.write_all(&framed).await.map_err(|fault| fault.to_string())
}

async fn receive(input: &mut quinn::RecvStream) -> Result<Vec<u8>, String> {
    let mut length = [0; 4];
    input.read_exact(&mut length).await.map_err(|fault| fault.to_string())?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > JOIN_MESSAGE_BYTES_MAX {
        return Err(format!("a message of {length} bytes; the limit is {JOIN_MESSAGE_BYTES_MAX}"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).await.map_err(|fault| fault.to_string())?;
    Ok(bytes)
}
