//! The box's side of joining: four messages over QUIC.

use crate::sealing::StoreKey;
use guan_identity::attest::{SECRET_BYTES, TpmPublic};
use guan_identity::join::{
    JOIN_EXPORTER_LABEL, JOIN_MESSAGE_BYTES_MAX, JoinAnswer, JoinMessageFault, JoinRequest,
    JoinSecret, JoinToken, OwnerPasswords, PASSWORD_BYTES, join_binding,
};
use guan_identity::tpm::{KeySlot, Tpm, TpmFault, TpmSigner};
use guan_identity::{
    RequestFault, Tier, TimeCell, TlsFault, certificate_request, join_client_config,
};
use guan_model::{BoxId, Digest, Signer, WallTime};
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Longest for a connection, and for each answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Response code of a read of an index that is not there: the maker gave no certificate.
const NO_CERTIFICATE: u32 = 0x18B;

/// What joining needs.
pub struct JoinAsk {
    pub tpm: Tpm,
    /// For the new TLS key; what is in it is replaced.
    pub slot: KeySlot,
    pub box_id: BoxId,
    pub host: String,
    pub port: u16,
    /// Name in the space's certificate.
    pub server_name: String,
    pub token: JoinToken,
    /// For the space to keep.
    pub store_key: Option<StoreKey>,
}

/// What the space gave.
#[derive(Debug)]
pub struct Joined {
    pub certificate_pem: String,
    pub authority_pem: String,
    pub tier: Tier,
    /// Why the TPM's passwords could not be set; the box has joined all the same.
    pub unowned: Option<TpmFault>,
}

/// Why the box did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinFault {
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    #[error(transparent)]
    Tls(#[from] TlsFault),
    #[error("the certificate request cannot be made")]
    Request(#[from] RequestFault),
    #[error("{host}:{port} is not found: check the name and the network")]
    Locate { host: String, port: u16, source: io::Error },
    #[error("no UDP socket can be opened")]
    Socket(#[source] io::Error),
    #[error(
        "no connection to {host}:{port}: check that it is listen.join_address of the space, that UDP gets \
         through, and that the token is of this space"
    )]
    Connect { host: String, port: u16, source: quinn::ConnectionError },
    #[error("{host}:{port} cannot be connected to")]
    Address { host: String, port: u16, source: quinn::ConnectError },
    #[error("the space does not answer within {} s", ANSWER_WAIT.as_secs())]
    Silent,
    #[error("the space ended the connection: {0}")]
    Lost(String),
    #[error("the space sent what cannot be read")]
    Message(#[from] JoinMessageFault),
    #[error("the space refuses: {text}")]
    Refused { text: String },
    #[error("the system gives no random numbers")]
    Random,
    #[error("the space answered out of turn")]
    Turn,
}

fn lost(fault: impl std::fmt::Display) -> JoinFault {
    JoinFault::Lost(fault.to_string())
}

/// Joins. The runtime must have several threads: TPM calls block one.
pub async fn join(ask: JoinAsk) -> Result<Joined, JoinFault> {
    let connection = connect(&ask).await?;
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, JOIN_EXPORTER_LABEL, &[])
        .map_err(|_| lost("it offers no exporter"))?;
    let binding = join_binding(&exporter, &ask.token.secret);
    let (tpm, slot) = (ask.tpm.clone(), ask.slot);
    let (box_id, token) = (ask.box_id.clone(), ask.token.secret.clone());
    let request = blocking(move || request(&tpm, slot, box_id, token, binding)).await?;
    let (mut out, mut input) = connection.open_bi().await.map_err(lost)?;
    send(&mut out, &request.encode()).await?;
    let challenge = match answer(&mut input).await? {
        JoinAnswer::Challenge(challenge) => challenge,
        JoinAnswer::Refused { text } => return Err(JoinFault::Refused { text }),
        JoinAnswer::Issued { .. } => return Err(JoinFault::Turn),
    };
    let (tpm, store_key) = (ask.tpm.clone(), ask.store_key.clone());
    let secret = blocking(move || {
        let opened = tpm.call("open the space's credential", move |chip| {
            chip.activate(&challenge.blob, &challenge.encrypted_seed)
        })?;
        let secret = <[u8; SECRET_BYTES]>::try_from(&opened[..]).map_err(|_| JoinFault::Turn)?;
        let passwords = match tpm.call("show its state", |chip| chip.state())?.has_owner() {
            true => None,
            false => Some(new_passwords()?),
        };
        Ok(JoinSecret { secret: Zeroizing::new(secret), passwords, store_key })
    });
    let secret = secret.await?;
    send(&mut out, &secret.encode()).await?;
    let mut joined = match answer(&mut input).await? {
        JoinAnswer::Issued { certificate_pem, authority_pem, tier } => {
            Joined { certificate_pem, authority_pem, tier, unowned: None }
        }
        JoinAnswer::Refused { text } => return Err(JoinFault::Refused { text }),
        JoinAnswer::Challenge(_) => return Err(JoinFault::Turn),
    };
    connection.close(0_u8.into(), b"joined");
    // The space has them: from now on nobody else clears the TPM. The certificate is worth more than that.
    if let Some(passwords) = secret.passwords {
        let tpm = ask.tpm.clone();
        let own = move || {
            let owned = tpm.call("take passwords", move |chip| chip.take_ownership(&passwords));
            Ok(owned.err())
        };
        joined.unowned = blocking(own).await?;
    }
    Ok(joined)
}

fn new_passwords() -> Result<OwnerPasswords, JoinFault> {
    let random = || {
        let mut password = Zeroizing::new([0; PASSWORD_BYTES]);
        let filled = SystemRandom::new().fill(&mut *password);
        filled.map_err(|_| JoinFault::Random)?;
        Ok::<_, JoinFault>(password)
    };
    Ok(OwnerPasswords { owner: random()?, lockout: random()? })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JoinFault> + Send + 'static,
) -> Result<T, JoinFault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(lost("the TPM's task failed")))
}

async fn locate(host: &str, port: u16) -> Result<SocketAddr, JoinFault> {
    let fault = |source| JoinFault::Locate { host: host.to_owned(), port, source };
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(fault)?;
    found.next().ok_or_else(|| fault(io::ErrorKind::NotFound.into()))
}

async fn connect(ask: &JoinAsk) -> Result<quinn::Connection, JoinFault> {
    let (host, port) = (ask.host.clone(), ask.port);
    let address = locate(&host, port).await?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    let tls = join_client_config(ask.token.authority, Arc::new(TimeCell::new(now)))?;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(lost)?;
    let local = match address {
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    };
    let endpoint = quinn::Endpoint::client(local).map_err(JoinFault::Socket)?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = match endpoint.connect_with(config, address, &ask.server_name) {
        Ok(connecting) => connecting,
        Err(source) => return Err(JoinFault::Address { host, port, source }),
    };
    let connected = timeout(ANSWER_WAIT, connecting).await.map_err(|_| JoinFault::Silent)?;
    connected.map_err(|source| JoinFault::Connect { host, port, source })
}

/// The first message: new keys where there are none, and what vouches for them. Blocks.
pub fn request(
    tpm: &Tpm,
    slot: KeySlot,
    box_id: BoxId,
    token: Zeroizing<[u8; 16]>,
    binding: Digest,
) -> Result<JoinRequest, JoinFault> {
    let (ek_public, (ek_certificate, intermediates), ak, tls, certified, folder) =
        tpm.call("show itself to the space", move |chip| {
            let ek_certificate = match chip.ek_certificate() {
                Err(TpmFault::Other { code, .. }) if code & 0xFFF == NO_CERTIFICATE => Vec::new(),
                other => other?,
            };
            let ak: TpmPublic = match chip.public(KeySlot::Attestation) {
                Ok(ak) if chip.holds(KeySlot::Attestation)? => ak,
                _ => chip.make_attestation_key()?,
            };
            let tls = chip.make_tls_key(slot)?;
            let certified = chip.certify(slot, &binding)?;
            let folder = chip.folder().to_path_buf();
            let chain = chip.ek_intermediates()?;
            Ok((chip.ek_public()?, (ek_certificate, chain), ak, tls, certified, folder))
        })?;
    let signer: Arc<dyn Signer> = Arc::new(TpmSigner::load(tpm.clone(), slot, &folder)?);
    let request = certificate_request(signer, &box_id)?;
    Ok(JoinRequest {
        token,
        box_id,
        ek_public,
        ek_certificate,
        intermediates,
        ak_public: ak.as_bytes().to_vec(),
        tls_public: tls.as_bytes().to_vec(),
        request,
        certified: certified.statement,
        certified_signature: certified.signature,
    })
}

async fn send(out: &mut quinn::SendStream, bytes: &[u8]) -> Result<(), JoinFault> {
    let length = u32::try_from(bytes.len()).expect("our messages are short");
    let framed = Zeroizing::new([&length.to_be_bytes()[..], bytes].concat());
    out.write_all(&framed).await.map_err(lost)
}

async fn answer(input: &mut quinn::RecvStream) -> Result<JoinAnswer, JoinFault> {
    let receive = async {
        let mut length = [0; 4];
        input.read_exact(&mut length).await.map_err(lost)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > JOIN_MESSAGE_BYTES_MAX {
            return Err(lost(format_args!("a message of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes).await.map_err(lost)?;
        Ok(JoinAnswer::decode(&bytes)?)
    };
    timeout(ANSWER_WAIT, receive).await.unwrap_or(Err(JoinFault::Silent))
}
