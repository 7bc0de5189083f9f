//! Whether the link may be up, and for what. Decided elsewhere ([`crate::rota`]); the link obeys.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permit {
    /// Connected, and batches leave.
    #[default]
    Open,
    /// Connected for contracts, attestation and letters; batches wait.
    Control,
    /// Not connected.
    Closed,
}

/// Waits until the permit is one that `fits`; for ever once nobody gives permits any more.
pub(super) async fn permitted(permits: &mut watch::Receiver<Permit>, fits: fn(Permit) -> bool) {
    if permits.wait_for(|permit| fits(*permit)).await.is_err() {
        std::future::pending::<()>().await;
    }
}
