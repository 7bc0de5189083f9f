//! JSON to duties: an action with refinements, each of which fixes one parameter.

mod writer;

pub(super) use writer::{duties_json, texts};

use crate::constraint::{Period, pattern};
use crate::duty::{
    Aggregate, Axis, BUCKET_EDGES_MAX, CONTRIBUTORS_MAX, CONTRIBUTORS_MIN, Duty, Grid, Group,
    MICRO, Mechanism, Noise, NotifyOn, PointPatterns, SAMPLE_MAX, Statistic, Transform, Treatment,
    WINDOW_MAX,
};
use crate::fault::{Faults, Problem, shown};
use crate::object::{Member, Object};
use guan_model::PointName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most duties of one rule.
const DUTIES_MAX: usize = 64;
/// Most points that one duty names.
const POINTS_MAX: usize = 8192;
/// Largest epsilon of a value or a budget.
const EPSILON_MAX: f64 = 1000.0;
/// Smallest delta: what is kept of it are its trillionths.
const DELTA_MIN: f64 = 1e-12;
/// Shortest step of a position grid, in metres.
const GRID_STEP_MIN_M: f64 = 1.0;

/// Transformations and other duties of one rule.
#[derive(Debug, Default)]
pub(super) struct Duties {
    pub(super) treatments: Vec<Treatment>,
    pub(super) duties: Vec<Duty>,
}

pub(super) fn read_duties(member: &Member<'_>, faults: &mut Faults) -> Duties {
    let mut all = Duties::default();
    for duty in member.one_or_many(DUTIES_MAX, faults) {
        let before = faults.len();
        if read_duty(&duty, &mut all, faults).is_none() {
            faults.add_if_none_since(before, &duty.pointer);
        }
    }
    all
}

fn read_duty(member: &Member<'_>, all: &mut Duties, faults: &mut Faults) -> Option<()> {
    let optional = ["refinement", "@type", "uid"];
    let object = Object::open_with(member.value, &member.pointer, &["action"], &optional, faults)?;
    let action = object.text("action", faults).map(crate::constraint::term)?;
    let mut parameters = Parameters::read(&object, faults)?;
    let into_at = parameters.left.get("into").map(|member| member.pointer.clone());
    if let Some(transform) = transform(action, &mut parameters, faults) {
        let points = parameters.points(faults);
        if let Some(group) = transform.as_ref().and_then(Transform::group)
            && points.covers(group.into.as_str())
            && let Some(pointer) = &into_at
        {
            faults.add(pointer, Problem::IntoCovered { point: group.into.to_string() });
        }
        parameters.finish(faults);
        let pointer = Arc::from(member.pointer.as_str());
        all.treatments.push(Treatment { points, transform: transform?, pointer });
        return Some(());
    }
    let duty = duty(action, &mut parameters, faults);
    if duty.is_none() {
        let known = "drop, mask, sample, clamp, aggregate, noise, round, bucket, coarsenPosition, \
                     pseudonymise, delay, delete, retain, notify, acknowledgeUse, log, \
                     policyTransmit or compensate";
        faults.add(&object.at("action"), Problem::UnknownTerm { found: shown(action), known });
        return None;
    }
    parameters.finish(faults);
    all.duties.push(duty??);
    Some(())
}

/// The refinements by name. Each that is taken out is understood; what is left over is a fault.
struct Parameters<'v> {
    pointer: String,
    left: BTreeMap<&'v str, Member<'v>>,
}

impl<'v> Parameters<'v> {
    fn read(object: &Object<'v>, faults: &mut Faults) -> Option<Self> {
        let mut left = BTreeMap::new();
        let list = object.member("refinement");
        let parts = list.map_or_else(Vec::new, |list| list.one_or_many(DUTIES_MAX, faults));
        for part in parts {
            const KEYS: [&str; 3] = ["leftOperand", "operator", "rightOperand"];
            let part = Object::open_with(part.value, &part.pointer, &KEYS, &["@type"], faults)?;
            let name = part.text("leftOperand", faults).map(crate::constraint::term)?;
            let operator = part.text("operator", faults).map(crate::constraint::term)?;
            if !["eq", "isAnyOf", "01", "07"].contains(&operator) {
                let known = "eq or isAnyOf";
                let problem = Problem::UnknownTerm { found: shown(operator), known };
                faults.add(&part.at("operator"), problem);
            }
            let value = part.member("rightOperand")?;
            if left.insert(name, value).is_some() {
                faults.add(&part.pointer, Problem::Duplicate { found: shown(name) });
            }
        }
        Some(Self { pointer: object.pointer.clone(), left })
    }

    fn optional(&mut self, name: &str) -> Option<Member<'v>> {
        self.left.remove(name)
    }

    fn required(&mut self, name: &str, faults: &mut Faults) -> Option<Member<'v>> {
        let member = self.left.remove(name);
        if member.is_none() {
            let problem = Problem::MissingParameter { name: name.to_owned() };
            faults.add(&self.pointer, problem);
        }
        member
    }

    fn points(&mut self, faults: &mut Faults) -> PointPatterns {
        let Some(member) = self.optional("dataField").or_else(|| self.optional("field")) else {
            return PointPatterns::every();
        };
        let names = member.one_or_many(POINTS_MAX, faults);
        PointPatterns::of(names.iter().filter_map(|name| pattern(name, faults)).collect())
    }

    /// A decimal within bounds, the lower one excluded when it is zero.
    fn decimal(&mut self, name: &str, low: f64, high: f64, faults: &mut Faults) -> Option<f64> {
        let member = self.required(name, faults)?;
        let number = member.decimal(faults)?;
        let is_within = (low..=high).contains(&number) && (low != 0.0 || number > 0.0);
        if !is_within {
            let (low, high) = (format!("{low:e}"), format!("{high:e}"));
            faults.add(&member.pointer, Problem::Range { name: name.to_owned(), low, high });
        }
        is_within.then_some(number)
    }

    fn finish(self, faults: &mut Faults) {
        for (name, member) in self.left {
            faults.add(&member.pointer, Problem::UnknownParameter { name: shown(name) });
        }
    }
}

/// The outer `None`: the action is no transformation. The inner: it has faults.
fn transform(
    action: &str,
    parameters: &mut Parameters<'_>,
    faults: &mut Faults,
) -> Option<Option<Transform>> {
    let p = parameters;
    Some(match action {
        "drop" => Some(Transform::Drop),
        "mask" => Some(Transform::Mask),
        "pseudonymise" => Some(Transform::Pseudonymise),
        "sample" => sample(p, faults),
        "clamp" => clamp(p, faults),
        "aggregate" => aggregate(p, faults),
        "noise" => noise(p, faults).map(Transform::Noise),
        "round" => p.decimal("step", 0.0, f64::MAX, faults).map(|step| Transform::Round { step }),
        "bucket" => bucket(p, faults),
        "coarsenPosition" => grid(p, faults),
        "delay" => p
            .required("span", faults)
            .and_then(|member| member.duration(faults))
            .map(|span| Transform::Delay { span }),
        _ => return None,
    })
}

fn sample(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Transform> {
    let member = p.required("oneOf", faults)?;
    let one_of = member.whole(faults)?;
    if !(1..=SAMPLE_MAX).contains(&one_of) {
        faults.add(&member.pointer, Problem::Limit { found: one_of, limit: SAMPLE_MAX });
        return None;
    }
    Some(Transform::Sample { one_of })
}

fn clamp(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Transform> {
    let low = p.decimal("low", f64::MIN, f64::MAX, faults);
    let high = p.decimal("high", f64::MIN, f64::MAX, faults);
    let (low, high) = (low?, high?);
    if low >= high {
        faults.add(&p.pointer, Problem::EmptyRange);
        return None;
    }
    Some(Transform::Clamp { low, high })
}

fn aggregate(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Transform> {
    let window_at = p.required("window", faults);
    let window = window_at.as_ref().and_then(|member| member.duration(faults));
    if let (Some(member), Some(window)) = (&window_at, window)
        && (window.is_zero() || window > WINDOW_MAX)
    {
        let problem = Problem::Limit { found: window.as_secs(), limit: WINDOW_MAX.as_secs() };
        faults.add(&member.pointer, problem);
        return None;
    }
    let known = "count, min, max, mean, p05, p50, p90, p95 or p99";
    let statistic = p.required("statistic", faults);
    let statistic = statistic.and_then(|member| member.word(&Statistic::WORDS, known, faults));
    // What stands behind a window are readings; the older name says less.
    let readings_min = match (p.optional("minReadings"), p.optional("contributors")) {
        (Some(_), Some(older)) => {
            let (first, second) = ("minReadings", "contributors");
            faults.add(&older.pointer, Problem::TwoSpellings { first, second });
            return None;
        }
        (Some(member), None) | (None, Some(member)) => member.whole(faults)?,
        (None, None) => 1,
    };
    let group = group(p, faults)?;
    let (window, statistic) = (window?, statistic?);
    Some(Transform::Aggregate(Aggregate { window, statistic, readings_min, group }))
}

/// The outer `None`: it has faults. The inner: each point has windows of its own.
fn group(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Option<Group>> {
    let (into, minimum) = (p.optional("into"), p.optional("minContributors"));
    let contributors_min = match &minimum {
        Some(member) => member.whole(faults)?,
        None => CONTRIBUTORS_MIN,
    };
    if let Some(member) = &minimum {
        if into.is_none() {
            faults.add(&member.pointer, Problem::ContributorsOfOne);
            return None;
        }
        if !(CONTRIBUTORS_MIN..=CONTRIBUTORS_MAX).contains(&contributors_min) {
            let (name, limits) = ("minContributors", [CONTRIBUTORS_MIN, CONTRIBUTORS_MAX]);
            let [low, high] = limits.map(|limit| limit.to_string());
            faults.add(&member.pointer, Problem::Range { name: name.to_owned(), low, high });
            return None;
        }
    }
    let Some(member) = into else { return Some(None) };
    match PointName::parse(member.text(faults)?) {
        Ok(into) => Some(Some(Group { into, contributors_min })),
        Err(fault) => {
            faults.add(&member.pointer, Problem::Name { detail: fault.to_string() });
            None
        }
    }
}

fn noise(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Noise> {
    const PERIODS: [(&str, Period); 4] = [
        ("total", Period::Total),
        ("hour", Period::Hour),
        ("day", Period::Day),
        ("month", Period::Month),
    ];
    let epsilon = p.decimal("epsilon", 0.0, EPSILON_MAX, faults);
    let budget = p.decimal("budget", 0.0, EPSILON_MAX, faults);
    let period = match p.optional("period") {
        Some(member) => member.word(&PERIODS, "total, hour, day or month", faults)?,
        None => Period::Total,
    };
    let kinds = [("laplace", true), ("gaussian", false)];
    let mechanism = p.required("mechanism", faults);
    let is_laplace = mechanism.and_then(|m| m.word(&kinds, "laplace or gaussian", faults))?;
    let mechanism = if is_laplace {
        Mechanism::Laplace
    } else {
        let delta = p.decimal("delta", DELTA_MIN, 0.1, faults)?;
        // The classic calibration of the Gaussian mechanism holds for epsilon below 1 only.
        if epsilon.is_some_and(|epsilon| rounded(epsilon * MICRO) >= rounded(MICRO)) {
            faults.add(&p.pointer, Problem::GaussianEpsilon);
        }
        Mechanism::Gaussian { delta_pico: rounded(delta * MICRO * MICRO) }
    };
    let (epsilon_micro, budget_micro) = (rounded(epsilon? * MICRO), rounded(budget? * MICRO));
    if epsilon_micro == 0 || budget_micro < epsilon_micro {
        faults.add(&p.pointer, Problem::NoiseBudget);
        return None;
    }
    Some(Noise { mechanism, epsilon_micro, budget_micro, period })
}

/// A small positive number to the nearest integer.
fn rounded(number: f64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the callers' limits keep it between 0 and 10^12"
    )]
    let whole = number.round() as u64;
    whole
}

fn bucket(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Transform> {
    let member = p.required("edges", faults)?;
    let edges = member.one_or_many(BUCKET_EDGES_MAX, faults);
    let edges: Option<Vec<f64>> = edges.iter().map(|edge| edge.decimal(faults)).collect();
    let edges = edges?;
    if edges.is_empty() || edges.windows(2).any(|pair| pair[0] >= pair[1]) {
        faults.add(&member.pointer, Problem::Edges);
        return None;
    }
    Some(Transform::Bucket { edges: Arc::from(edges) })
}

fn grid(p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Transform> {
    let axes = [("latitude", Axis::Latitude), ("longitude", Axis::Longitude)];
    let axis = p.required("axis", faults);
    let axis = axis.and_then(|member| member.word(&axes, "latitude or longitude", faults));
    let step_m = p.decimal("step_m", GRID_STEP_MIN_M, 1e7, faults);
    let reference_latitude = match p.left.get("referenceLatitude") {
        Some(_) => p.decimal("referenceLatitude", -89.0, 89.0, faults)?,
        None => 0.0,
    };
    let (axis, step_m) = (axis?, step_m?);
    Some(Transform::Grid(Grid { axis, step_m, reference_latitude }))
}

/// The outer `None`: the action is no duty.
fn duty(action: &str, p: &mut Parameters<'_>, faults: &mut Faults) -> Option<Option<Duty>> {
    Some(match action {
        "delete" => match (p.optional("by"), p.left.contains_key("after")) {
            (Some(by), true) => {
                p.optional("after");
                faults.add(&by.pointer, Problem::TwoDeadlines);
                None
            }
            (Some(member), false) => member.moment(faults).map(Duty::DeleteBy),
            (None, _) => span(p, "after", faults).map(Duty::DeleteAfter),
        },
        "retain" => span(p, "atLeast", faults).map(Duty::Retain),
        "notify" => {
            let target = p.required("target", faults).and_then(|member| member.text(faults));
            let on = p.required("on", faults);
            let on =
                on.and_then(|member| member.word(&NotifyOn::WORDS, "deny, quota or use", faults));
            target.zip(on).map(|(target, on)| Duty::Notify { target: Arc::from(target), on })
        }
        "acknowledgeUse" => span(p, "every", faults).map(|every| Duty::AcknowledgeUse { every }),
        "log" | "logRecordSend" => Some(Duty::Log),
        "policyTransmit" | "plicyTransmit" => Some(Duty::AttachPolicy),
        "compensate" => Some(Duty::Compensate),
        _ => return None,
    })
}

fn span(p: &mut Parameters<'_>, name: &str, faults: &mut Faults) -> Option<std::time::Duration> {
    p.required(name, faults)?.duration(faults)
}
