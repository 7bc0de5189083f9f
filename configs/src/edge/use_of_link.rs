//! How much of the link the box may use, and when.

use crate::schema::{Kind, Node};
use guan_model::{ContractId, WeekWindow};
use std::time::Duration;

const WINDOWS_MAX: usize = 32;
const CONTRACTS_MAX: usize = 256;

/// What decides how much is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CongestionName {
    Guan,
    Cubic,
}

/// Most bytes of a day and of a month, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetConfig {
    pub day_bytes_max: Option<u64>,
    pub month_bytes_max: Option<u64>,
}

/// What one contract may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractBudgetConfig {
    pub contract: ContractId,
    pub budget: BudgetConfig,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UseConfig {
    pub congestion: CongestionName,
    pub rate_bits_per_s_max: Option<u64>,
    pub backlog_percent: u8,
    /// `None`: all batches of a contract leave in order.
    pub live_after: Option<Duration>,
    pub budget: BudgetConfig,
    pub contracts: Vec<ContractBudgetConfig>,
    pub windows: Vec<WeekWindow>,
    pub sleep_after: Option<Duration>,
    pub check_in: Duration,
}

/// Keys of the table `link`.
pub(super) fn read_use(node: &Node<'_>) -> Option<UseConfig> {
    let about = "What decides how much is on the way: `guan` fills links that lose packets, `cubic` gives way \
                 to others on links that lose none.";
    let choices = [("guan", CongestionName::Guan), ("cubic", CongestionName::Cubic)];
    let congestion = node.choice("congestion", about, &choices, Some("guan"));
    let about = "Most bits a second to the space, repetitions included, in whole packets a round trip; not set: \
                 as many as the link takes.";
    let rate = node.optional_integer("rate_bits_per_s_max", about, 8_000..=100_000_000_000);
    if rate.is_some() && congestion == Some(CongestionName::Cubic) {
        node.fault(
            "rate_bits_per_s_max",
            "is kept by congestion = \"guan\" only: remove one of the two",
        );
    }
    let about = "Share of the bytes for batches that were kept from before the link came up, while there are new \
                 ones, too.";
    let backlog = node.integer("backlog_share_percent", about, 0..=90, Some(25));
    let about = "When batches of a contract have waited for so long, later ones overtake them; 0: they leave in their \
                 order.";
    let live_after = node.integer("live_after_s", about, 0..=86_400, Some(30));
    let budget = read_budget(node, "the link, UDP payload in both directions");
    let about = "The link is let go when nothing was said for so long, and comes up when something waits; not \
                 set: it is kept up. Meanwhile revocations come with the next check-in, and nothing leaves.";
    let sleep = node.optional_integer("sleep_after_s", about, 10..=86_400);
    let about = "How often a link that is down for sleep, windows or budgets comes up for contracts and \
                 attestation. Each costs 10 to 12 kB.";
    let check_in = node.integer("check_in_s", about, 60..=604_800, Some(43_200));
    // Tables come behind all keys, as in the file.
    let contracts = read_contracts(node);
    let windows = read_windows(node);
    Some(UseConfig {
        congestion: congestion?,
        rate_bits_per_s_max: rate,
        live_after: (live_after > 0).then(|| Duration::from_secs(live_after)),
        backlog_percent: u8::try_from(backlog).expect("within its range"),
        budget,
        contracts: contracts?,
        windows: windows?,
        sleep_after: sleep.map(Duration::from_secs),
        check_in: Duration::from_secs(check_in),
    })
}

fn read_budget(node: &Node<'_>, of: &str) -> BudgetConfig {
    let about = format!("Most bytes a day (UTC) of {of}; then batches wait.");
    let day_bytes_max = node.optional_integer("bytes_per_day_max", &about, 100_000..=1 << 50);
    let about = format!("Most bytes a month (UTC) of {of}; then batches wait.");
    let month_bytes_max = node.optional_integer("bytes_per_month_max", &about, 100_000..=1 << 50);
    if let (Some(day), Some(month)) = (day_bytes_max, month_bytes_max)
        && day > month
    {
        node.fault("bytes_per_day_max", format!("is above bytes_per_month_max = {month}"));
    }
    BudgetConfig { day_bytes_max, month_bytes_max }
}

/// `None`: a fault was reported.
fn read_contracts(node: &Node<'_>) -> Option<Vec<ContractBudgetConfig>> {
    let mut contracts: Vec<ContractBudgetConfig> = Vec::new();
    let mut is_good = true;
    for one in node.tables("contract", CONTRACTS_MAX) {
        let kind = Kind { name: "name", accepted: "the id of a contract" };
        let contract = one.text("id", "Contract whose batches are counted.", &kind, None, |text| {
            ContractId::parse(text).map_err(|fault| fault.to_string())
        });
        let budget = read_budget(&one, "this contract, batches as they are encoded");
        if contracts.iter().any(|known| Some(&known.contract) == contract.as_ref()) {
            one.fault("id", "is there twice");
        }
        one.finish();
        match contract {
            Some(contract) => contracts.push(ContractBudgetConfig { contract, budget }),
            None => is_good = false,
        }
    }
    is_good.then_some(contracts)
}

/// `None`: a fault was reported.
fn read_windows(node: &Node<'_>) -> Option<Vec<WeekWindow>> {
    let mut windows = Vec::new();
    let mut is_good = true;
    for one in node.tables("window", WINDOWS_MAX) {
        let days = Kind { name: "days", accepted: "days such as mon-fri, sat or mon,wed" };
        let about = "Days on which it begins, in UTC.";
        let days = one.text("days", about, &days, Some("mon-sun"), |text| {
            WeekWindow::parse(text, "00:00", "24:00").map(|_| text.to_owned())
        });
        let minute = Kind { name: "time", accepted: "HH:MM, from 00:00 to 24:00" };
        let parse = |text: &str| WeekWindow::parse("mon", text, "24:00").map(|_| text.to_owned());
        let from = one.text("from", "When it begins, in UTC.", &minute, None, parse);
        let about = "When it ends, in UTC; on the next day where that is earlier than `from`.";
        let until = one.text("until", about, &minute, None, parse);
        one.finish();
        match days.zip(from.zip(until)) {
            Some((days, (from, until))) => {
                windows.push(WeekWindow::parse(&days, &from, &until).expect("its parts are good"));
            }
            None => is_good = false,
        }
    }
    is_good.then_some(windows)
}
