//! `guan-space meter`.

use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use guan_configs::SpaceConfig;
use guan_model::{BoxId, WallTime};
use guan_space::acknowledgement::{self, Acknowledged, Due, Seal, Uses};
use guan_space::meter::{BoxMeter, Compared, Days, Sum, compare, received};
use guan_space::parties::PartyKeys;
use guan_space::run;
use guan_spool::OsDisk;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// The version of `guan meter --json` that is read.
const SCHEMA: u32 = 1;

pub(super) fn execute(common: &Common, box_file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let path = config.state_dir.join(run::STORE_DIR);
    let disk = OsDisk::open_read_only(&path).with_context(|| {
        format!("there is no store in {}; start `guan-space run` first", path.display())
    })?;
    let boxes = received(&disk)?;
    let Some(file) = box_file else {
        let beside = Beside::read(&config, &disk, &boxes)?;
        if common.json {
            let boxes = boxes.iter().map(|(id, days)| (id.to_string(), json!(days)));
            let boxes = boxes.collect::<serde_json::Map<_, _>>();
            print_json(&json!({
                "boxes": boxes, "acknowledgements": beside.acknowledgements(),
                "compensation": beside.compensation,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "{:<16} {:<24} {:<12} {:>9} {:>12}",
            "box", "contract", "day (UTC)", "batches", "readings"
        );
        for (id, contracts) in &boxes {
            for (contract, days) in contracts {
                for (day, sum) in days {
                    let (batches, rows) = (sum.batches, sum.rows);
                    println!("{id:<16} {contract:<24} {day:<12} {batches:>9} {rows:>12}");
                }
            }
        }
        beside.print();
        return Ok(ExitCode::SUCCESS);
    };
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    let says: BoxMeter = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what `guan meter --json` prints", file.display()))?;
    if says.schema != SCHEMA {
        bail!("{} has schema {}, this program reads {SCHEMA}", file.display(), says.schema);
    }
    let here = boxes.get(&BoxId::parse(&says.box_id)?).cloned().unwrap_or_default();
    let compared = compare(&says, &here);
    let agrees = compared.iter().all(Compared::agrees);
    match common.json {
        true => print_json(&json!({
            "box": says.box_id, "agrees": agrees, "contracts": compared,
        }))?,
        false => print(&says.box_id, &compared),
    }
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What contracts ask of their consumers beside the data.
struct Beside {
    due: Vec<Due>,
    acknowledged: Vec<(Acknowledged, Seal)>,
    damaged: u64,
    /// By contract: its price terms as they stand, and what was delivered under it.
    compensation: Value,
}

impl Beside {
    fn read(
        config: &SpaceConfig,
        store: &OsDisk,
        boxes: &BTreeMap<BoxId, Days>,
    ) -> anyhow::Result<Self> {
        let sets = run::open_sets(config)?;
        let asked = acknowledgement::asked(&sets);
        let uses = match asked.is_empty() {
            true => Uses::new(),
            false => acknowledgement::count(store, &asked)?,
        };
        let known = acknowledgement::read_known(&config.state_dir, &PartyKeys::new(config));
        let (acknowledged, damaged) = known.context("acknowledged.jsonl cannot be read")?;
        let mut compensation = serde_json::Map::new();
        for contract in sets.contracts() {
            let Some(terms) = acknowledgement::compensation(&contract) else { continue };
            let mut delivered = Sum::default();
            let days = boxes.values().filter_map(|days| days.get(contract.id().as_str()));
            days.flat_map(BTreeMap::values).for_each(|sum| delivered.add(*sum));
            compensation.insert(
                contract.id().to_string(),
                json!({
                    "consumer": contract.consumer(), "provider": contract.provider(),
                    "terms": terms, "delivered": delivered,
                }),
            );
        }
        let due = acknowledgement::due(&asked, &uses, &acknowledged, wall_time());
        Ok(Self { due, acknowledged, damaged, compensation: Value::Object(compensation) })
    }

    fn acknowledgements(&self) -> Value {
        let given = self.acknowledged.iter();
        let given = given.map(|(said, seal)| json!({"said": said, "signature": seal.name()}));
        let given: Vec<Value> = given.collect();
        json!({"due": self.due, "given": given, "damaged": self.damaged})
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
        for (contract, paid) in self.compensation.as_object().into_iter().flatten() {
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
    }
}

/// A moment for people.
pub(super) fn shown(second: i64) -> String {
    guan_policy::object::moment_text(WallTime::from_seconds(second))
}

fn print(box_id: &str, compared: &[Compared]) {
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>12}",
        "contract", "log says", "given up", "received", "missing"
    );
    for one in compared {
        println!(
            "{:<24} {:>12} {:>12} {:>12} {:>12}",
            one.contract, one.kept.rows, one.given_up.rows, one.received.rows, one.missing_rows
        );
    }
    let differing: Vec<&Compared> = compared.iter().filter(|one| !one.agrees()).collect();
    if differing.is_empty() {
        println!("box {box_id} and this space agree");
    }
    for one in differing {
        println!(
            "box {box_id}: contract {} differs by {} readings in {} batches: on their way, or ask the \
             box's log",
            one.contract, one.missing_rows, one.missing_batches
        );
    }
}
