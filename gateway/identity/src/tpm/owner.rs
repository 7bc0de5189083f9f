//! Who may change the TPM itself: passwords that the space keeps, and the way out of service.

use super::chip::{Chip, During, PASSWORD};
use super::fault::TpmFault;
use crate::join::OwnerPasswords;
use tss_esapi::handles::{AuthHandle, ObjectHandle};
use tss_esapi::structures::Auth;

impl Chip {
    /// Sets both passwords of a TPM that has none: from then on only who knows them clears it or resets its
    /// lockout. Our keys and counters need neither.
    pub fn take_ownership(&mut self, passwords: &OwnerPasswords) -> Result<(), TpmFault> {
        let what = "take its owner's passwords";
        // What needs the owner is made first: the counter's index, and the place of the log's heads.
        self.make_areas()?;
        let pairs = [
            (AuthHandle::Owner, &passwords.owner[..]),
            (AuthHandle::Lockout, &passwords.lockout[..]),
        ];
        for (hierarchy, password) in pairs {
            let password = Auth::try_from(password.to_vec()).during(what)?;
            let set = self.context.execute_with_session(PASSWORD, |context| {
                context.hierarchy_change_auth(hierarchy, password)
            });
            set.during(what)?;
        }
        Ok(())
    }

    /// Removes everything of ours from the TPM; the endorsement key stays, as it is the maker's.
    pub fn clear(&mut self, lockout_password: &[u8]) -> Result<(), TpmFault> {
        let what = "be cleared";
        let password = Auth::try_from(lockout_password.to_vec()).during(what)?;
        let cleared = self.context.tr_set_auth(ObjectHandle::Lockout, password).and_then(|()| {
            self.context
                .execute_with_session(PASSWORD, |context| context.clear(AuthHandle::Lockout))
        });
        self.forget();
        cleared.during(what)
    }
}
