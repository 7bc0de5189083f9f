//! Who may connect, and what they may publish and tap.

use super::filter::TopicFilter;
use guan_model::Digest;
use std::collections::BTreeMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Topics that a client may use.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    pub publish: Vec<TopicFilter>,
    pub subscribe: Vec<TopicFilter>,
}

impl Rights {
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|filter| filter.matches(topic))
    }

    /// A subscription may be wider than the rights; what comes of it is what may be read.
    pub fn may_read(&self, topic: &str) -> bool {
        self.subscribe.iter().any(|filter| filter.matches(topic))
    }

    /// Whether a subscription could ever give this client anything.
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        self.subscribe.iter().any(|right| right.overlaps(filter))
    }
}

/// A client with a name.
pub struct User {
    /// SHA-256 of the password; `None` when only a certificate will do.
    password: Option<Digest>,
    rights: Arc<Rights>,
}

impl User {
    pub fn new(password: Option<&[u8]>, rights: Rights) -> Self {
        Self { password: password.map(Digest::of), rights: Arc::new(rights) }
    }
}

/// Everyone who may connect.
#[derive(Default)]
pub struct Authenticator {
    anonymous: Option<Arc<Rights>>,
    users: BTreeMap<String, User>,
}

impl Authenticator {
    /// `anonymous`: rights of clients without a name; `None` turns them away.
    pub fn new(anonymous: Option<Rights>, users: BTreeMap<String, User>) -> Self {
        Self { anonymous: anonymous.map(Arc::new), users }
    }

    /// The rights of a client; `None` turns it away. `certificate` is the name that TLS proved.
    pub(super) fn rights(
        &self,
        certificate: Option<&str>,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<Arc<Rights>> {
        if let Some(name) = certificate {
            return self.users.get(name).map(|user| user.rights.clone());
        }
        let Some(user) = user else { return self.anonymous.clone() };
        // An unknown name costs as much as a wrong password, so that names cannot be probed.
        let found = self.users.get(user);
        let stored = found.and_then(|user| user.password).unwrap_or(Digest([0; 32]));
        let given = Digest::of(password.unwrap_or_default());
        let fits: bool = stored.0.ct_eq(&given.0).into();
        found.filter(|user| fits && user.password.is_some()).map(|user| user.rights.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_opens() {
        let rights =
            || Rights { publish: vec![TopicFilter::parse("a/#").unwrap()], subscribe: Vec::new() };
        let users = BTreeMap::from([
            ("press".to_owned(), User::new(Some(b"secret"), rights())),
            ("truck".to_owned(), User::new(None, rights())),
        ]);
        let closed = Authenticator::new(None, users);
        let check = |certificate, user, password: Option<&str>, expect: bool| {
            let rights = closed.rights(certificate, user, password.map(str::as_bytes));
            assert_eq!(rights.is_some(), expect, "{certificate:?} {user:?} {password:?}");
        };
        check(None, Some("press"), Some("secret"), true);
        check(None, Some("press"), Some("Secret"), false);
        check(None, Some("press"), None, false);
        check(None, Some("nobody"), Some("secret"), false);
        check(None, Some("truck"), Some(""), false);
        check(None, None, None, false);
        check(Some("truck"), None, None, true);
        check(Some("nobody"), Some("press"), Some("secret"), false);
        let open = Authenticator::new(Some(rights()), BTreeMap::new());
        let rights = open.rights(None, None, None).unwrap();
        assert!(rights.may_publish("a/b") && !rights.may_publish("b"));
        assert!(!rights.may_subscribe(&TopicFilter::parse("#").unwrap()));
    }
}
