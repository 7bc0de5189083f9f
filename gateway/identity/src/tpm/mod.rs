//! The box's TPM: one thread that owns it, keys that never leave it, and what it attests to.
//!
//! Invariants: no key falls back to software; a context that broke is made anew; a TPM that is gone or slow
//! costs the link and never the collection.
//!
//! Never here: what the space makes of it ([`crate::attest`]), sockets.

mod chip;
mod fault;
mod key_blob;
mod memory;
mod owner;
mod raw;
mod seal;
mod signer;
mod state;
mod tcti;
mod template;
mod trail;
mod worker;

pub use chip::{Attested, Chip};
pub use fault::TpmFault;
pub use key_blob::KeySlot;
pub use memory::ROOT_KEY_BYTES;
pub use seal::SEALED_BYTES;
pub use signer::TpmSigner;
pub use state::TpmState;
pub use tcti::{Tcti, TctiFault};
pub use trail::{ANCHOR_PCRS, Remembered};
pub use worker::{CALL_WAIT, HANG_AFTER, QUEUE_MAX, Tpm, TpmOptions};
