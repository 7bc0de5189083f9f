//! `guan check`: looks at everything a box needs, and names a cure for each fault.

use super::cert::{look, now};
use super::{Common, load, print_json};
use guan_configs::EdgeConfig;
use guan_edge::box_identity::{slot_of, start_tpm, tier};
use guan_edge::status::GuanStatus;
use guan_edge::upkeep::DECOMMISSIONED_FILE;
use guan_identity::attest::{TpmPublic, endorsement_digest};
use guan_identity::tpm::{KeySlot, Tpm, TpmFault};
use guan_identity::{Tier, read_certificates};
use guan_model::time::EARLIEST;
use serde_json::json;
use std::process::ExitCode;

/// Something is wrong that keeps the box from its work.
const FAULTY: u8 = 1;
/// The TPM that the configuration names is not there.
const NO_TPM: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Warning,
    Fault,
}

/// One thing that was looked at.
struct Line {
    what: &'static str,
    grade: Grade,
    text: String,
    cure: Option<String>,
}

#[derive(Default)]
struct Report {
    lines: Vec<Line>,
    is_tpm_absent: bool,
}

impl Report {
    fn good(&mut self, what: &'static str, text: impl Into<String>) {
        self.lines.push(Line { what, grade: Grade::Good, text: text.into(), cure: None });
    }

    fn bad(
        &mut self,
        grade: Grade,
        what: &'static str,
        text: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.lines.push(Line { what, grade, text: text.into(), cure: Some(cure.into()) });
    }

    fn fault(&mut self, what: &'static str, text: impl Into<String>, cure: impl Into<String>) {
        self.bad(Grade::Fault, what, text, cure);
    }

    fn code(&self) -> u8 {
        match self.lines.iter().any(|line| line.grade == Grade::Fault) {
            true if self.is_tpm_absent => NO_TPM,
            true => FAULTY,
            false => 0,
        }
    }
}

pub(super) fn execute(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let mut report = Report::default();
    report.good("configuration", common.config.display().to_string());
    check_clock(&mut report);
    check_service(&config, &mut report);
    check_tpm(&config, &mut report);
    check_certificate(&config, &mut report)?;
    check_running(&config, &mut report);
    if common.json {
        let lines = report.lines.iter().map(|line| {
            let grade = match line.grade {
                Grade::Good => "good",
                Grade::Warning => "warning",
                Grade::Fault => "fault",
            };
            json!({"what": line.what, "grade": grade, "text": line.text, "cure": line.cure})
        });
        print_json(&json!({ "exit_code": report.code(), "lines": lines.collect::<Vec<_>>() }))?;
        return Ok(report.code().into());
    }
    for line in &report.lines {
        let mark = match line.grade {
            Grade::Good => "ok",
            Grade::Warning => "WARN",
            Grade::Fault => "FAULT",
        };
        println!("{mark:<6} {:<14} {}", line.what, line.text);
        if let Some(cure) = &line.cure {
            println!("       {:<14} -> {cure}", "");
        }
    }
    Ok(report.code().into())
}

fn check_clock(report: &mut Report) {
    match now() >= EARLIEST {
        true => report.good("clock", super::cert::text(now())),
        false => report.bad(
            Grade::Warning,
            "clock",
            format!("{} is impossible", super::cert::text(now())),
            "let NTP or BeiDou set it, or change the battery; collection goes on, and readings are marked",
        ),
    }
}

fn check_service(config: &EdgeConfig, report: &mut Report) {
    let marker = config.state_dir.join(DECOMMISSIONED_FILE);
    if let Ok(text) = std::fs::read_to_string(&marker) {
        let text = format!("this box is out of service: {}", text.trim());
        report.fault("service", text, "`guan join` with a new token brings it back");
    }
}

fn check_tpm(config: &EdgeConfig, report: &mut Report) {
    if tier(&config.identity) == Tier::Unattested {
        return report.bad(
            Grade::Warning,
            "TPM",
            "tier unattested: a key in a file proves nothing about the machine",
            "set identity.tier and identity.tpm, then `guan join`",
        );
    }
    let tpm = match start_tpm(&config.identity) {
        Ok(Some(tpm)) => tpm,
        Ok(None) => return,
        Err(fault) => return report.fault("TPM", fault.to_string(), "correct identity.tpm"),
    };
    match tpm.call("show itself", |chip| Ok((chip.make()?, chip.state()?))) {
        Ok(((maker, firmware), state)) => {
            report.good("TPM", format!("{maker}, firmware {firmware:#x}"));
            if state.is_locked_out() {
                report.bad(
                    Grade::Warning,
                    "lockout",
                    "wrong passwords have locked the TPM; the keys of this box go on",
                    "wait for its recovery time, or `guan tpm reset-lockout` with the password of \
                     `guan-space box passwords`",
                );
            }
            if !state.is_owned() {
                report.bad(
                    Grade::Warning,
                    "TPM's owner",
                    "no passwords are set: whoever is root can clear the TPM",
                    "join the space (again): it keeps the passwords",
                );
            }
        }
        Err(fault) => {
            report.is_tpm_absent = matches!(fault, TpmFault::Absent { .. });
            let cure = "enable the TPM in the firmware's setup, and let guan open the device; until \
                        then readings are kept in the spool";
            return report.fault("TPM", fault.to_string(), cure);
        }
    }
    check_endorsement(&tpm, report);
    check_keys(config, &tpm, report);
    check_store(config, &tpm, report);
}

fn check_endorsement(tpm: &Tpm, report: &mut Report) {
    let public = tpm.call("show the endorsement key", |chip| chip.ek_public());
    let digest = public.ok().and_then(|bytes| TpmPublic::parse(&bytes).ok());
    let digest = digest.map(|public| endorsement_digest(&public).to_string()).unwrap_or_default();
    match tpm.call("show the endorsement certificate", |chip| chip.ek_certificate()) {
        Ok(_) => report.good("endorsement", format!("{digest}, with its maker's certificate")),
        Err(_) => report.bad(
            Grade::Warning,
            "endorsement",
            format!("{digest}, without a certificate of its maker"),
            format!(
                "enrol it by that digest: `guan-space token new --ek {digest} --tier hardware`"
            ),
        ),
    }
}

fn check_keys(config: &EdgeConfig, tpm: &Tpm, report: &mut Report) {
    let join = "the TPM was cleared, or the disk is of another box: `guan join` with a new token";
    match tpm.call("load the attestation key", |chip| chip.holds(KeySlot::Attestation)) {
        Ok(true) => report.good("attestation", "the attestation key is in this TPM"),
        Ok(false) => report.fault("attestation", "this TPM has no attestation key of ours", join),
        Err(fault) => report.fault("attestation", fault.to_string(), "see the line TPM"),
    }
    let Some(settings) = &config.identity.tpm else { return };
    let pem = std::fs::read_to_string(&config.identity.certificate_file).ok();
    let leaf = pem.and_then(|pem| read_certificates(&pem).ok()?.into_iter().next());
    let Some(leaf) = leaf else { return };
    match slot_of(&settings.folder, &leaf) {
        Ok(slot) => match tpm.call("load the TLS key", move |chip| chip.holds(slot)) {
            Ok(true) => report.good("TLS key", format!("{} is in this TPM", slot.name())),
            Ok(false) => report.fault("TLS key", "this TPM does not take the TLS key", join),
            Err(fault) => report.fault("TLS key", fault.to_string(), "see the line TPM"),
        },
        Err(fault) => report.fault("TLS key", fault.to_string(), join),
    }
}

fn check_store(config: &EdgeConfig, tpm: &Tpm, report: &mut Report) {
    if config.identity.seal.is_none() {
        return report.bad(
            Grade::Warning,
            "store",
            "the log's key is a plain file",
            "set identity.store_policies and identity.store_policy_key before the box joins",
        );
    }
    match guan_edge::sealing::log_key(config, Some(tpm)) {
        Ok(_) => report.good("store", "the TPM opens it for this firmware"),
        Err(fault) if fault.is_shut() => report.fault(
            "store",
            fault.to_string(),
            "have the maker sign a policy for these PCRs (`guan-space release policy`), and send it with \
             `guan-space box send-policy`",
        ),
        Err(fault) => report.fault("store", fault.to_string(), "`guan join` makes what is missing"),
    }
}

fn check_certificate(config: &EdgeConfig, report: &mut Report) -> anyhow::Result<()> {
    let Some(found) = look(config, &config.identity.certificate_file)? else {
        let cure =
            "`guan join --space HOST:PORT --token-file -` with a token of `guan-space token new`";
        report.fault("certificate", "the box has not joined a space", cure);
        return Ok(());
    };
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let named = tier(&config.identity).name();
    if word("tier") != named {
        let text = format!("of tier {}, and identity.tier says {named}", word("tier"));
        report.fault("certificate", text, "a box never falls by itself: join again, or correct it");
    } else if word("box") != config.box_id.as_str() {
        let text = format!("of box {}, and box.id says {}", word("box"), config.box_id);
        report.fault("certificate", text, "correct box.id, or join again");
    } else if found["is_expired"] == true {
        let text = format!("expired on {}; readings are kept in the spool", word("not_after"));
        report.fault("certificate", text, "`guan join` with a new token");
    } else if found["is_due"] == true {
        let text =
            format!("until {}, and not renewed since {}", word("not_after"), word("renew_at"));
        let cure = "the running gateway renews it when the space is reached: see `guan status`";
        report.bad(Grade::Warning, "certificate", text, cure);
    } else {
        report.good("certificate", format!("until {}", word("not_after")));
    }
    Ok(())
}

fn check_running(config: &EdgeConfig, report: &mut Report) {
    let status = match GuanStatus::read(&config.state_dir) {
        Ok(status) if !status.is_stale(now()) => status,
        _ => return report.bad(Grade::Warning, "gateway", "does not run", "start `guan run`"),
    };
    report.good("gateway", format!("runs as process {}", status.process));
    match (&status.link.state[..], &status.link.last_error) {
        ("connected", _) => report.good("link", "connected"),
        (state, None) => report.bad(Grade::Warning, "link", state, "wait, then look again"),
        (state, Some(error)) => {
            let cure = "check link.address and that UDP gets through; at the space, `guan-space box \
                        show` tells what it thinks of this box";
            report.bad(Grade::Warning, "link", format!("{state}: {error}"), cure);
        }
    }
    for alarm in &status.alarms {
        report.bad(Grade::Warning, "alarm", alarm.clone(), "see the log of guan around it");
    }
}
