//! `guan-space release`: what the maker of a firmware release signs. Needs no space.

use anyhow::{Context, bail};
use clap::Subcommand;
use guan_identity::attest::{PCR_COUNT, Pcrs, Reference, StorePolicy, sign_store_policy};
use guan_identity::{KeyFile, LogKeyFile, encode_public_p256};
use guan_model::{Digest, PublicKey, Signer};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names of the two keys in their folder: a TPM cannot check Ed25519, so policies have a key of P-256.
const REFERENCE_KEY: &str = "reference.key.pem";
const POLICY_KEY: &str = "policy.key.pem";
const POLICY_PUBLIC: &str = "policy.pub.pem";

#[derive(Subcommand)]
pub(super) enum ReleaseCommand {
    /// Make the two keys of a maker: one for reference values, one for policies.
    Keys {
        /// Folder to make them in; keep it away from every box and space.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Reference values: what the space expects of boxes that run this release.
    Reference {
        /// Folder of the keys.
        #[arg(long)]
        keys: PathBuf,
        /// Name of the release, as identity.release of the boxes.
        #[arg(long)]
        release: String,
        /// Rises with each release that must not be gone back behind.
        #[arg(long)]
        counter: u64,
        /// A value that a PCR may have, such as 11=<64 hex digits>; repeat for several.
        #[arg(long = "pcr", required = true)]
        pcrs: Vec<String>,
        /// Demand that Secure Boot was on.
        #[arg(long)]
        secure_boot: bool,
        /// Digest of the event of a Secure Boot variable, such as db=<64 hex digits>; repeat for several.
        #[arg(long = "variable")]
        variables: Vec<String>,
        /// Until when boxes may run it, such as 2027-06-01T00:00:00Z.
        #[arg(long)]
        until: String,
        /// File to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Policy: the firmware under which the TPM of a box opens its store.
    Policy {
        /// Folder of the keys.
        #[arg(long)]
        keys: PathBuf,
        /// Name of the release, for people.
        #[arg(long)]
        release: String,
        /// 1 to 63; rises with each release that must not be gone back behind.
        #[arg(long)]
        epoch: u8,
        /// The value that a PCR must have, such as 11=<64 hex digits>; repeat for several.
        #[arg(long = "pcr", required = true)]
        pcrs: Vec<String>,
        /// File to write.
        #[arg(long)]
        out: PathBuf,
    },
}

pub(super) fn execute(command: &ReleaseCommand) -> anyhow::Result<()> {
    match command {
        ReleaseCommand::Keys { dir } => keys(dir),
        ReleaseCommand::Reference {
            keys,
            release,
            counter,
            pcrs,
            secure_boot,
            variables,
            until,
            out,
        } => {
            let document = json!({
                "schema": 1,
                "release": release,
                "counter": counter,
                "secure_boot": secure_boot,
                "variables": listed(variables)?,
                "pcrs": listed(pcrs)?,
                "valid_until": until,
            });
            reference(keys, &document.to_string(), out)
        }
        ReleaseCommand::Policy { keys, release, epoch, pcrs, out } => {
            policy(keys, release, *epoch, pcrs, out)
        }
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

fn keys(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let reference = LogKeyFile::create(&dir.join(REFERENCE_KEY), "release")?;
    let policy = KeyFile::create(&dir.join(POLICY_KEY), "release")?;
    let public = encode_public_p256(&policy.public_key()).context("a P-256 key was made")?;
    write(&dir.join(POLICY_PUBLIC), &public)?;
    let PublicKey::Ed25519(key) = reference.public_key() else { bail!("no Ed25519 key was made") };
    println!("spaces:  attestation.release_keys = [\"{}\"]", hex::encode(key));
    println!(
        "boxes:   identity.store_policy_key = a copy of {}",
        dir.join(POLICY_PUBLIC).display()
    );
    Ok(())
}

/// `name=<digest>`, several of a name allowed.
fn listed(pairs: &[String]) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in pairs {
        let (name, digest) = split(pair)?;
        all.entry(name.to_owned()).or_default().push(digest.to_string());
    }
    Ok(all)
}

fn split(pair: &str) -> anyhow::Result<(&str, Digest)> {
    let found = pair
        .split_once('=')
        .and_then(|(name, digest)| Some((name.trim(), Digest::from_hex(digest.trim())?)));
    found.with_context(|| format!("{pair:?}: write a name, =, and 64 hex digits"))
}

fn reference(keys: &Path, document: &str, out: &Path) -> anyhow::Result<()> {
    let key = LogKeyFile::load(&keys.join(REFERENCE_KEY), "release")?;
    let PublicKey::Ed25519(public) = key.public_key() else { bail!("{REFERENCE_KEY}: no Ed25519") };
    let text = format!("{document}\n{}\n", hex::encode(key.sign(document.as_bytes())?));
    // Read as a space will read it: what it would leave out is not written.
    let reference = Reference::parse(&text, &[public])?;
    write(out, &text)?;
    println!("{}: release {}, counter {}", out.display(), reference.release, reference.counter);
    Ok(())
}

fn policy(
    keys: &Path,
    release: &str,
    epoch: u8,
    pairs: &[String],
    out: &Path,
) -> anyhow::Result<()> {
    let key = KeyFile::load(&keys.join(POLICY_KEY), "release")?;
    let mut pcrs = Pcrs::new();
    for pair in pairs {
        let (name, digest) = split(pair)?;
        let number = name.parse::<u8>().ok().filter(|number| *number < PCR_COUNT);
        let number = number.with_context(|| format!("{name:?} is no PCR: give 0 to 23"))?;
        if pcrs.insert(number, digest).is_some() {
            bail!("PCR {number} is given twice: a policy has one value of each");
        }
    }
    let text = sign_store_policy(release, epoch, &pcrs, &key)?;
    StorePolicy::parse(&text, &key.public_key())?;
    write(out, &text)?;
    println!("{}: release {release}, epoch {epoch}", out.display());
    Ok(())
}
