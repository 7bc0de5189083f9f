//! The space in the simulated world: the real store, runner, inbox and link.

use crate::world::Shared;
use guan_evidence::Program;
use guan_line::VirtualTime;
use guan_link::driver::{Admit, Peers, SpaceLink};
use guan_model::{BoxId, ClockQuality, Now};
use guan_space::inbox::StoreInbox;
use guan_space::received::Tally;
use guan_space::runner::{self, REQUESTS_MAX, StoreStatus};
use guan_space::store::{LogParts, Store};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The registry is files; here every certificate of the authority is enrolled.
#[derive(Clone)]
struct AllEnrolled;

impl Admit for AllEnrolled {
    async fn admit(&self, chain: Vec<CertificateDer<'static>>) -> Result<BoxId, String> {
        let (box_id, _) =
            guan_identity::peer_identity(&chain[0]).map_err(|fault| fault.to_string())?;
        Ok(box_id)
    }
}

/// One boot of the space, until it is crashed.
pub(crate) async fn boot(shared: Arc<Shared>) -> turmoil::Result {
    let program = Program::parse("guan-space sim").expect("it is short and plain");
    let (disk, signer) = (shared.space_disk.clone(), shared.space_log_key.clone());
    let log = LogParts { disk: disk.clone(), signer, program };
    let (store, _) = Store::open(disk, 64 << 10, [3; 16], log)?;
    let started = tokio::time::Instant::now();
    let clock = Arc::new(move || Now {
        wall: crate::box_host::T0,
        monotonic: started.elapsed(),
        quality: ClockQuality::Ntp,
    });
    let socket = shared.medium.space_socket().await?;
    let endpoint = quinn::Endpoint::new_with_abstract_socket(
        quinn::EndpointConfig::default(),
        Some(shared.server_config.clone()),
        socket,
        Arc::new(VirtualTime),
    )?;
    let (requests_out, requests) = mpsc::channel(REQUESTS_MAX);
    let (status_out, status) = watch::channel(StoreStatus::default());
    let inbox = StoreInbox::new(requests_out, status, Arc::new(|| crate::box_host::T0));
    let (_stop, stopping) = watch::channel(false);
    let link = SpaceLink {
        tcp: None,
        endpoint,
        inbox,
        admit: AllEnrolled,
        appraise: None,
        peers_max: 4,
        peers: watch::Sender::new(Peers::new()),
        stop: stopping,
    };
    tokio::spawn(link.run());
    runner::run(store, requests, status_out, clock, Tally::default()).await?;
    Ok(())
}
