//! What the box's TPM said of the log, as files that tpm2-tools and OpenSSL take, and those files checked.
//!
//! The leaf is the source: the files are cut from it, and must equal it. A statement is told only where the
//! key that is beside it made it; what an earlier key of the box said stays in its entry.

use super::{Files, Finding, MakeFault};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::head_text;
use crate::leaf::{Leaf, LeafBody, Statement};
use crate::proof::{PROOF_HASHES_MAX, prove_consistency, verify_consistency};
use crate::subtrees::{Nodes, root_at};
use crate::tpm::{ALG_SHA256, Attestation, Attested, Pcrs, TpmSignature, pcr_digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{Digest, PublicKey};

/// Selections of a TPML_PCR_SELECTION, and digests of a TPML_DIGEST, as tss2 lays them out.
const SELECTIONS: usize = 16;
const SELECTION_BYTES: usize = 8;
const DIGESTS: usize = 8;
const DIGEST_BYTES_MAX: usize = 64;

/// A statement in a leaf, and the size of the head that it is about.
pub(super) enum Said<'l> {
    Quote { size: u64, pcrs: &'l Pcrs, statement: &'l Statement },
    Chained { size: u64, before: Option<Digest>, statement: &'l Statement },
}

impl<'l> Said<'l> {
    pub(super) fn of(leaf: &'l Leaf) -> Option<Self> {
        match &leaf.body {
            LeafBody::Anchor(anchor) => Some(Self::Quote {
                size: anchor.size,
                pcrs: &anchor.pcrs,
                statement: &anchor.quote,
            }),
            LeafBody::Chain(chain) => Some(Self::Chained {
                size: chain.size,
                before: chain.before,
                statement: &chain.certified,
            }),
            _ => None,
        }
    }

    pub(super) fn folder(&self) -> &'static str {
        match self {
            Self::Quote { .. } => "anchors",
            Self::Chained { .. } => "chain",
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Quote { size, .. } | Self::Chained { size, .. } => *size,
        }
    }

    fn statement(&self) -> &'l Statement {
        match self {
            Self::Quote { statement, .. } | Self::Chained { statement, .. } => statement,
        }
    }

    pub(super) fn is_by(&self, key: &PublicKey) -> bool {
        let signature = TpmSignature::parse(self.statement().signature());
        signature.is_ok_and(|signature| signature.is_by(key, self.statement().attested()))
    }

    /// The files that follow from the leaf and the text of the head alone, by their ending.
    fn files(&self, head: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let statement = self.statement();
        let mut files = vec![
            ("msg", statement.attested().to_vec()),
            ("sig", statement.signature().to_vec()),
            ("qualifying", Digest::of(head).to_string().into_bytes()),
        ];
        match self {
            Self::Quote { pcrs, .. } => files.push(("pcrs", pcr_file(pcrs))),
            Self::Chained { .. } => {
                let signature = TpmSignature::parse(statement.signature());
                files.extend(signature.ok().map(|signature| ("der", signature.to_der())));
            }
        }
        files
    }

    /// Whether the TPM said of this head what the leaf says that it did.
    fn check_words(&self, head: &[u8]) -> Result<(), &'static str> {
        let said = Attestation::parse(self.statement().attested())
            .map_err(|_| "it is no statement of a TPM")?;
        if said.extra != Digest::of(head).0 {
            return Err("it is about something else than the head beside it");
        }
        match (self, said.attested) {
            (Self::Quote { pcrs, .. }, Attested::Quote { selected, digest }) => {
                let is_told = pcrs.keys().eq(&selected) && digest == pcr_digest(pcrs).0;
                is_told.then_some(()).ok_or("the registers are not those that the TPM quoted")
            }
            (Self::Chained { before, .. }, Attested::Nv { contents, .. }) => {
                let before = before.unwrap_or(Digest([0; 32]));
                let expected = Digest::of_parts(&[&before.0, &Digest::of(head).0]);
                let is_next = contents == expected.0;
                is_next.then_some(()).ok_or("the digest over all boots does not follow from it")
            }
            _ => Err("it is another kind of statement"),
        }
    }
}

/// PCR values as `tpm2_quote -o` writes and `tpm2_checkquote -f` reads them: TPML_PCR_SELECTION, the
/// number of TPML_DIGESTs, then those; all numbers little-endian, all arrays at full length.
fn pcr_file(pcrs: &Pcrs) -> Vec<u8> {
    let mut bits = [0_u8; 4];
    pcrs.keys().for_each(|pcr| bits[usize::from(pcr / 8)] |= 1 << (pcr % 8));
    let mut bytes = 1_u32.to_le_bytes().to_vec();
    bytes.extend(ALG_SHA256.to_le_bytes());
    bytes.push(3);
    bytes.extend(bits);
    bytes.resize(4 + SELECTIONS * SELECTION_BYTES, 0);
    let values: Vec<&Digest> = pcrs.values().collect();
    let lists = values.chunks(DIGESTS);
    bytes.extend(u32::try_from(lists.len()).expect("a leaf has few PCRs").to_le_bytes());
    for list in lists {
        let end = bytes.len() + 4 + DIGESTS * (2 + DIGEST_BYTES_MAX);
        bytes.extend(u32::try_from(list.len()).expect("eight at most").to_le_bytes());
        for value in list {
            bytes.extend(32_u16.to_le_bytes());
            bytes.extend(value.0);
            bytes.resize(bytes.len() + DIGEST_BYTES_MAX - value.0.len(), 0);
        }
        bytes.resize(end, 0);
    }
    bytes
}

/// That `newest` continues the head of `size` leaves: one hash in base64 a line.
pub(super) fn consistency(
    size: u64,
    newest: &Checkpoint,
    nodes: &dyn Nodes,
) -> Result<Vec<u8>, MakeFault> {
    let proof = prove_consistency(size, newest.size, nodes)?;
    Ok(hash_lines(&proof))
}

fn hash_lines(hashes: &[Digest]) -> Vec<u8> {
    let lines: String = hashes.iter().map(|hash| STANDARD.encode(hash.0) + "\n").collect();
    lines.into_bytes()
}

/// Puts the files of a statement beside the entry that holds it.
pub(super) fn put(
    files: &mut Files,
    (index, leaf): (u64, &Leaf),
    head: &Checkpoint,
    nodes: &dyn Nodes,
    key: Option<&PublicKey>,
) -> Result<(), MakeFault> {
    let Some(said) = Said::of(leaf) else { return Ok(()) };
    // About no head of this log: the entry shows it, and the check says so.
    let is_of_log = (1..=head.size).contains(&said.size());
    if !is_of_log || !key.is_some_and(|key| said.is_by(key)) {
        return Ok(());
    }
    let text = head_text(&head.origin, said.size(), &root_at(said.size(), nodes)?);
    let proof = consistency(said.size(), head, nodes)?;
    let mut put = |ending: &str, bytes: Vec<u8>| {
        files.insert(format!("{}/{index}.{ending}", said.folder()), bytes);
    };
    said.files(text.as_bytes()).into_iter().for_each(|(ending, bytes)| put(ending, bytes));
    put("head", text.into_bytes());
    put("consistency", proof);
    Ok(())
}

/// Checks the files of a statement against its leaf, its key and the newest head.
pub(super) fn check(
    files: &Files,
    index: u64,
    said: &Said<'_>,
    newest: Option<&Checkpoint>,
    key: Option<&PublicKey>,
) -> Result<(), Finding> {
    let refuse = |what| Finding::Statement { index, what };
    let file = |ending: &str| files.get(&format!("{}/{index}.{ending}", said.folder()));
    let key = key.ok_or(refuse("ak.pem is missing"))?;
    if !said.is_by(key) {
        return Err(refuse("the key that is believed did not sign it"));
    }
    let head = file("head").ok_or(refuse("a file of it is missing"))?;
    let derived = said.files(head);
    if derived.iter().any(|(ending, bytes)| file(ending) != Some(bytes)) {
        return Err(refuse("a file of it is missing, or is not what the entry says"));
    }
    said.check_words(head).map_err(refuse)?;
    check_head(index, head, said.size(), newest, file("consistency"))
}

/// Whether this text is the head of `size` leaves of the log whose newest head is trusted.
pub(super) fn check_head(
    index: u64,
    head: &[u8],
    size: u64,
    newest: Option<&Checkpoint>,
    proof: Option<&Vec<u8>>,
) -> Result<(), Finding> {
    let refuse = |what| Finding::Statement { index, what };
    let text = String::from_utf8_lossy(head);
    let seen = Checkpoint::parse_unverified(&format!("{text}\n\u{2014}"))
        .map_err(|source| Finding::AnchorHead { index, source })?;
    let newest = newest.ok_or(refuse("the head of the bundle is not trusted"))?;
    let is_named = head_text(&newest.origin, seen.size, &seen.root).as_bytes() == head;
    if !is_named || seen.size != size {
        return Err(refuse("the head beside it is another one"));
    }
    let bytes = proof.ok_or(refuse("its consistency proof is missing"))?;
    let lines = String::from_utf8_lossy(bytes);
    let hashes = lines.lines().take(PROOF_HASHES_MAX + 1);
    let hashes: Option<Vec<Digest>> =
        hashes.map(|line| STANDARD.decode(line).ok()?.try_into().ok().map(Digest)).collect();
    // Written in one way only, so that no byte of the file is anybody's.
    let proof = hashes.filter(|hashes| hash_lines(hashes) == *bytes);
    let proof = proof.ok_or(refuse("its consistency proof cannot be read"))?;
    verify_consistency((seen.size, &seen.root), (newest.size, &newest.root), &proof)
        .map_err(|source| Finding::Consistency { index, source })
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;
    use std::collections::BTreeMap;

    /// The file that tpm2_quote 5.4 itself wrote over PCRs 0, 7 and 13.
    #[test]
    fn register_values_are_as_tpm2_tools_write_them() {
        let golden = include_str!("../../tests/golden/tpm-statements-v1.pcrs.hex");
        let golden = hex(golden.trim());
        let start = 4 + SELECTIONS * SELECTION_BYTES + 8;
        let value = |at: usize| {
            let begin = start + at * (2 + DIGEST_BYTES_MAX) + 2;
            Digest(golden[begin..begin + 32].try_into().unwrap())
        };
        let pcrs = BTreeMap::from([(0, value(0)), (7, value(1)), (13, value(2))]);
        assert_eq!(pcr_file(&pcrs), golden);
    }
}
