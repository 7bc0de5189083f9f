//! The verdict, for people and as JSON.

use crate::outcome;
use crate::terminal::{claim, say};
use guan_evidence::dossier::{Believed, Custody, Disclosed, Dossier, Stamped, Witnessed};
use guan_evidence::view::LeafView;
use serde_json::{Value, json};

/// Keys that the bundle itself names, which somebody has to compare: as the check read them, however they
/// are written there.
fn own_keys(dossier: &Dossier) -> Vec<String> {
    let policy = &dossier.own_policy;
    let logs = policy.log_keys().map(|key| format!("log {key}"));
    let witnesses = policy.witnesses().map(|(name, key, _)| format!("witness {name} {key}"));
    logs.chain(witnesses).collect()
}

fn moment(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).ok();
    let at = seconds.and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| "an impossible time".to_owned())
}

pub(crate) fn as_json(dossier: &Dossier, findings: &[String], believed: Believed<'_>) -> Value {
    let head = dossier.checkpoint.as_ref().map(
        |head| json!({"origin": head.origin, "size": head.size, "root": head.root.to_string()}),
    );
    let cosigned = dossier.cosigned.iter().map(|(name, cosigned)| {
        json!({"witness": name, "at_s": cosigned.seconds, "at": moment(cosigned.seconds)})
    });
    let mut view = LeafView::new();
    let entries = dossier.entries.iter().map(|leaf| {
        let mut entry = view.leaf(leaf);
        entry["not_after_s"] = json!(dossier.not_after_s(leaf.seq));
        entry
    });
    let entries: Vec<Value> = entries.collect();
    let witnessed = dossier.witnessed.iter().map(|one| {
        json!({"index": one.index, "witness": one.witness, "size": one.size, "at_s": one.seconds})
    });
    let stamped = dossier.stamped.iter();
    let stamped = stamped.map(|one| json!({"size": one.size, "at_s": one.seconds}));
    let disclosed = dossier.disclosed.iter();
    let disclosed = disclosed.map(|one| json!({"index": one.index, "actor": one.actor}));
    let contracts = outcome::outcomes(&dossier.entries).into_iter();
    let contracts = contracts.map(|(contract, outcome)| (contract, outcome.json()));
    let contracts: serde_json::Map<_, _> = contracts.collect();
    let remarks: Vec<String> = dossier.remarks.iter().map(ToString::to_string).collect();
    let custody = dossier.custody.as_ref().map(|one| {
        json!({
            "by": one.collected_by, "at": one.collected_at, "tool": one.tool, "trust": "collector",
        })
    });
    json!({
        "schema": 1, "contracts": contracts, "holds": dossier.holds(), "head": head,
        "signed": dossier.signed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cosigned": cosigned.collect::<Vec<_>>(), "entries": entries,
        "receipts": dossier.receipts, "quotes": dossier.quotes, "chained": dossier.chained,
        "findings": findings, "remarks": remarks, "custody": custody, "keys": own_keys(dossier),
        "witnessed": witnessed.collect::<Vec<_>>(), "stamped": stamped.collect::<Vec<_>>(),
        "disclosed": disclosed.collect::<Vec<_>>(),
        "trust": if believed.policy.is_some() { "policy" } else { "bundle" },
        "attestation_key": dossier.attestation_key.map(|key| json!({
            "point_sha256": key.point.to_string(), "spki_sha256": key.spki.to_string(),
            "trust": if believed.attestation_key.is_some() { "ak" } else { "bundle" },
        })),
    })
}

pub(crate) fn print(dossier: &Dossier, findings: &[String], believed: Believed<'_>) {
    if let Some(head) = &dossier.checkpoint {
        say!("log         {}, {} entries", head.origin, head.size);
        say!("root        {}", head.root);
    }
    for key in &dossier.signed {
        say!("signed      by {key}");
    }
    for (name, cosigned) in &dossier.cosigned {
        say!("cosigned    by {name} at {}", moment(cosigned.seconds));
    }
    for Witnessed { index, witness, size, seconds } in &dossier.witnessed {
        say!("cosigned    {size} entries by {witness} at {}, entry {index}", moment(*seconds));
    }
    for Stamped { size, seconds } in &dossier.stamped {
        let at = u64::try_from(*seconds).map_or_else(|_| "a time before 1970".to_owned(), moment);
        say!("stamped     {size} entries at {at} by the authority of --tsa");
    }
    say!(
        "checked     {} entries with their proofs, {} receipts, {} quotes of the TPM, {} of its digest",
        dossier.entries.len(),
        dossier.receipts,
        dossier.quotes,
        dossier.chained
    );
    for leaf in &dossier.entries {
        let (seq, kind) = (leaf.seq, leaf.body.kind_name());
        match dossier.not_after_s(seq) {
            Some(seconds) => {
                say!("entry       {seq:>8}  {kind:<16} there by {}", moment(seconds))
            }
            None => say!("entry       {seq:>8}  {kind:<16} nobody who is believed says when"),
        }
    }
    for Disclosed { index, actor } in &dossier.disclosed {
        say!("disclosed   entry {index} was done by {}", claim(actor));
    }
    for (contract, outcome) in outcome::outcomes(&dossier.entries) {
        outcome.print(&contract);
    }
    if believed.policy.is_none() {
        say!("believed    the keys that the bundle itself names. Compare them with those that the");
        say!("            space and the box's operator publish, or give them with --policy:");
        own_keys(dossier).iter().for_each(|line| say!("            {line}"));
    }
    if let Some(key) = dossier.attestation_key.filter(|_| believed.attestation_key.is_none()) {
        say!(
            "believed    the key of the TPM that the bundle itself holds. Compare it with the one that"
        );
        say!("            the space enrolled, or give that with --ak:");
        say!("            SHA-256 of its DER                          {}", key.spki);
        say!("            SHA-256 of its point, as \"tpm.start\" says it {}", key.point);
    }
    if let Some(Custody { collected_by, collected_at, tool }) = &dossier.custody {
        let [by, at, tool] = [collected_by, collected_at, tool].map(|text| claim(text));
        say!("claimed     custody.json is what the collector says, and nobody vouches for it:");
        say!("            collected by {by} at {at} with {tool}");
    }
    dossier.remarks.iter().for_each(|remark| say!("remark      {remark}"));
    findings.iter().for_each(|finding| say!("FINDING     {finding}"));
    match dossier.holds() {
        true => say!("holds: every entry is in the log that these keys signed"),
        false => say!("DOES NOT HOLD: do not rely on any of it"),
    }
}
