//! A signed document that is no contract: body, schema and signatures in one file.
//!
//! Entries of signatures are those of contract files, over a first line of the form's own and the canonical
//! bytes (RFC 8785) of the body. Who has to have signed is the caller's to say.

use crate::contract::{SIGNATURES_MAX, SignatureEntry, signature};
use crate::fault::{ContractError, Faults, Problem, shown};
use crate::json;
use crate::object::{Object, entries};
use crate::signature::{TrustedKeys, signature_json};
use guan_model::Signer;
use serde_json::{Value, json};

/// One kind of signed document.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// First line of what is signed: no signature of one kind counts for another.
    pub domain: &'static [u8],
    /// Name of the member that holds the body.
    pub body: &'static str,
    pub schema: u32,
    pub bytes_max: usize,
}

/// A document that was opened; its signatures are not yet checked.
pub struct Opened {
    pub body: Value,
    signatures: Vec<SignatureEntry>,
    message: Vec<u8>,
}

impl Envelope {
    /// Reads the frame and notes what is wrong with it.
    pub fn open(&self, bytes: &[u8], faults: &mut Faults) -> Option<Opened> {
        if bytes.len() > self.bytes_max {
            faults.add("", Problem::TooLong { length: bytes.len(), limit: self.bytes_max });
            return None;
        }
        let value = json::read(bytes, faults)?;
        let file = Object::open(&value, "", &["schema", self.body, "signatures"], faults)?;
        if let Some(schema) = file.members.get("schema")
            && schema.as_u64() != Some(u64::from(self.schema))
        {
            let detail =
                format!("{} is not the schema {}", shown(&schema.to_string()), self.schema);
            faults.add("/schema", Problem::Name { detail });
        }
        let list = file.members.get("signatures")?;
        let signatures = entries(list, "/signatures", SIGNATURES_MAX, faults)
            .iter()
            .filter_map(|(at, entry)| signature(entry, at, faults))
            .collect();
        let body = file.members.get(self.body)?.clone();
        let message = self.message(&body);
        Some(Opened { body, signatures, message })
    }

    /// The document with one signature, as one line.
    pub fn seal(
        &self,
        body: &Value,
        party: &str,
        signer: &dyn Signer,
    ) -> Result<Vec<u8>, ContractError> {
        let mut faults = Faults::default();
        let signature = match signature_json(party, signer, &self.message(body)) {
            Ok(signature) => signature,
            Err(detail) => {
                faults.add("", Problem::Signer { detail });
                return faults.finish(None);
            }
        };
        let file = json!({"schema": self.schema, self.body: body, "signatures": [signature]});
        let bytes = [&json::canonical_json(&file)[..], b"\n"].concat();
        if bytes.len() > self.bytes_max {
            faults.add("", Problem::TooLong { length: bytes.len(), limit: self.bytes_max });
        }
        faults.finish(Some(bytes))
    }

    fn message(&self, body: &Value) -> Vec<u8> {
        [self.domain, &json::canonical_json(body)].concat()
    }
}

impl Opened {
    /// Notes unless a trusted key of the party has signed.
    pub fn check(&self, party: &str, keys: &TrustedKeys, faults: &mut Faults) {
        keys.check_parties(&[party], 1, &self.signatures, &self.message, faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::TestSigner;

    const FORM: Envelope =
        Envelope { domain: b"guan-test/1\n", body: "thing", schema: 1, bytes_max: 400 };

    fn check(form: &Envelope, file: &str, expect: &str) {
        let signer = TestSigner::new(1);
        let keys = TrustedKeys::new(vec![("box-1".to_owned(), signer.public_key())]).unwrap();
        let mut faults = Faults::default();
        let opened = form.open(file.as_bytes(), &mut faults);
        if let Some(opened) = &opened {
            opened.check("box-1", &keys, &mut faults);
        }
        let outcome = faults.finish(opened.map(|opened| opened.body.to_string()));
        let text = outcome.unwrap_or_else(|error| error.to_string());
        assert!(text.contains(expect), "{text} for {expect}");
    }

    #[test]
    fn what_was_sealed_opens_and_what_was_changed_does_not() {
        let seal = |form: &Envelope, text: &str| {
            let sealed = form.seal(&json!({"a": text}), "box-1", &TestSigner::new(1));
            sealed.map(|bytes| String::from_utf8(bytes).unwrap())
        };
        let file = seal(&FORM, "b").unwrap();
        check(&FORM, &file, "{\"a\":\"b\"}");
        check(&FORM, &file.replace("\"b\"", "\"c\""), "altered after signing");
        check(&FORM, &file.replace("box-1", "box-2"), "box-1");
        check(&FORM, &file.replace("\"schema\":1", "\"schema\":2"), "schema");
        check(&FORM, "{}", "missing");
        let other = Envelope { domain: b"guan-other/1\n", ..FORM };
        check(&other, &file, "altered after signing");
        let room = FORM.bytes_max - file.len() + 1;
        assert!(seal(&FORM, &"b".repeat(room)).is_ok());
        assert!(seal(&FORM, &"b".repeat(room + 1)).is_err());
        check(&FORM, &" ".repeat(401), "the limit is 400");
    }
}
