//! `guan-space meter`.

use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use guan_configs::SpaceConfig;
use guan_evidence::account::Sum;
use guan_evidence::view::account_line;
use guan_model::{BoxId, WallTime};
use guan_policy::object::day_text;
use guan_space::acknowledgement::{self, ACKNOWLEDGED_FILE, Acknowledged, Covered, Due, Seal};
use guan_space::parties::PartyKeys;
use guan_space::provenance::{self, BothEnds, BoxAccount, Unlogged};
use guan_space::run;
use guan_space::sets::Sets;
use guan_spool::OsDisk;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(super) fn execute(common: &Common, only: Option<&str>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let mut boxes = provenance::accounts(&config.state_dir, config.id.as_str())?;
    let beside = Beside::read(&config, &boxes);
    if let Some(only) = only {
        let only = BoxId::parse(only)?;
        boxes.retain(|box_id, _| *box_id == only);
        if boxes.is_empty() {
            bail!("box {only} has sent nothing, and no log of it is copied");
        }
    }
    let agrees = boxes.values().all(BoxAccount::agrees);
    if common.json {
        let boxes = boxes.iter().map(|(id, account)| (id.to_string(), as_json(account)));
        let boxes = boxes.collect::<serde_json::Map<_, _>>();
        print_json(&json!({
            "agrees": agrees, "boxes": boxes, "acknowledgements": beside.acknowledgements(),
            "compensation": beside.compensation,
        }))?;
    } else {
        print(&boxes);
        beside.print();
    }
    let is_good = agrees && beside.fault.is_none();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What contracts ask of their consumers beside the data. Its faults take nothing away from the sums.
#[derive(Default)]
struct Beside {
    due: Vec<Due>,
    acknowledged: Vec<(Acknowledged, Seal)>,
    damaged: u64,
    /// By contract: its price terms as they stand, and what was delivered under it.
    compensation: serde_json::Map<String, Value>,
    /// Why some of it is missing, in one line.
    fault: Option<String>,
}

impl Beside {
    fn read(config: &SpaceConfig, boxes: &BTreeMap<BoxId, BoxAccount>) -> Self {
        let mut beside = Self::default();
        let read = run::open_sets(config).map_err(anyhow::Error::from).and_then(|sets| {
            beside.read_compensation(&sets, boxes);
            beside.read_acknowledgements(config, &sets)
        });
        beside.fault = read.err().map(|fault| format!("{fault:#}").replace('\n', " "));
        beside
    }

    fn read_acknowledgements(&mut self, config: &SpaceConfig, sets: &Sets) -> anyhow::Result<()> {
        let known = acknowledgement::read_known(&config.state_dir, &PartyKeys::new(config));
        (self.acknowledged, self.damaged) =
            known.with_context(|| format!("{ACKNOWLEDGED_FILE} cannot be read"))?;
        let asked = acknowledgement::asked(sets);
        if asked.is_empty() {
            return Ok(());
        }
        let store = OsDisk::open_read_only(&config.state_dir.join(run::STORE_DIR))?;
        let covered = Covered::new(&asked, &self.acknowledged);
        let now = wall_time();
        let counted = acknowledgement::count(&store, &asked, &covered)?;
        self.due = acknowledgement::due(&asked, &counted.uses, &covered, now);
        counted.fault().map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn read_compensation(&mut self, sets: &Sets, boxes: &BTreeMap<BoxId, BoxAccount>) {
        for contract in sets.contracts() {
            let Some(terms) = acknowledgement::compensation(&contract) else { continue };
            let mut delivered = Sum::default();
            let held = boxes.values().filter_map(|account| account.stored.get(contract.id()));
            held.for_each(|sum| delivered.add(*sum));
            self.compensation.insert(
                contract.id().to_string(),
                json!({
                    "consumer": contract.consumer(), "provider": contract.provider(),
                    "terms": terms, "delivered": delivered,
                }),
            );
        }
    }

    fn acknowledgements(&self) -> Value {
        let given = self.acknowledged.iter();
        let given = given.map(|(said, seal)| json!({"said": said, "signature": seal.name()}));
        let given: Vec<Value> = given.collect();
        json!({"due": self.due, "given": given, "damaged": self.damaged, "fault": self.fault})
    }

    fn print(&self) {
        for (said, seal) in &self.acknowledged {
            println!(
                "{} acknowledged {} readings in {} batches under {}, {} to {}: signature {}",
                said.party,
                said.rows,
                said.batches,
                said.contract,
                shown(said.from_s),
                shown(said.until_s),
                seal.name()
            );
        }
        if self.damaged > 0 {
            println!("{} lines of acknowledged.jsonl are damaged", self.damaged);
        }
        for one in &self.due {
            println!(
                "{} has yet to acknowledge {} readings in {} batches under {}, {} to {}{}",
                one.consumer,
                one.sum.rows,
                one.sum.batches,
                one.contract,
                shown(one.period.from_s),
                shown(one.period.until_s),
                if one.is_overdue { ": OVERDUE" } else { "" }
            );
        }
        for (contract, paid) in &self.compensation {
            println!(
                "{contract}: {} pays {} by the terms {} for {} readings in {} batches; no money moves \
                 here, the parties settle",
                paid["consumer"].as_str().unwrap_or_default(),
                paid["provider"].as_str().unwrap_or_default(),
                paid["terms"],
                paid["delivered"]["rows"],
                paid["delivered"]["batches"]
            );
        }
        if let Some(fault) = &self.fault {
            println!("FAULT      acknowledgements are not all here: {fault}");
        }
    }
}

/// A moment for people.
pub(super) fn shown(second: i64) -> String {
    guan_policy::object::moment_text(WallTime::from_seconds(second))
}

fn as_json(account: &BoxAccount) -> Value {
    let lines = account.lines.iter().map(|((contract, day), one)| {
        let mut json = account_line(&one.line);
        json["contract"] = json!(contract.as_str());
        json["day"] = json!(day_text(*day));
        json["received"] = json!(one.received);
        json["lost"] = json!(one.lost);
        json
    });
    let unlogged = account.unlogged.iter().map(|(contract, one)| {
        let json = json!({
            "open": one.open, "concealed": one.concealed, "rows_off": one.rows_off,
        });
        (contract.to_string(), json)
    });
    json!({
        "agrees": account.agrees(), "lines": lines.collect::<Vec<_>>(),
        "unlogged": unlogged.collect::<serde_json::Map<_, _>>(), "left_out": account.left_out,
    })
}

fn print(boxes: &BTreeMap<BoxId, BoxAccount>) {
    println!(
        "{:<16} {:<24} {:<10} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "box", "contract", "day (UTC)", "log says", "proven", "sent", "received", "given up"
    );
    for (id, account) in boxes {
        for ((contract, day), BothEnds { line, received, .. }) in &account.lines {
            println!(
                "{id:<16} {:<24} {:<10} {:>12} {:>12} {:>12} {:>12} {:>12}",
                contract.as_str(),
                day_text(*day),
                line.kept.rows,
                line.proven.rows,
                line.sent.rows,
                received.rows,
                line.given_up().rows
            );
        }
    }
    println!("readings, by the day of the box; sent: the box has this space's receipt for them");
    for (id, account) in boxes {
        for ((contract, day), one) in &account.lines {
            if one.lost.batches > 0 {
                println!(
                    "LOST       {} readings of {} under {contract} on {}: received once, and not in the \
                     store; restore it from a backup",
                    one.lost.rows,
                    id,
                    day_text(*day)
                );
            }
        }
        for (contract, Unlogged { open, concealed, rows_off }) in &account.unlogged {
            if open.batches > 0 {
                println!(
                    "OPEN       {id} under {contract}: {} readings in {} batches wait for their entries in \
                     the copy of its log (`guan-space log boxes`)",
                    open.rows, open.batches
                );
            }
            if concealed.batches > 0 {
                println!(
                    "CONCEALED  {id} under {contract}: {} readings in {} batches came that its log does not \
                     tell of; the box runs an altered program, or was restored",
                    concealed.rows, concealed.batches
                );
            }
            if *rows_off != 0 {
                println!(
                    "DIFFERS    {id} under {contract}: {rows_off:+} readings against what its log tells of \
                     the same batches; `guan-space trace --contract {contract}` names them"
                );
            }
        }
        if account.left_out > 0 {
            println!("LEFT OUT   {} batches of {id} are in none of these lines", account.left_out);
        }
        if account.agrees() {
            println!("box {id}, its log and this space agree");
        }
    }
}
