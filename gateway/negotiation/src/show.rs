//! A negotiation for people and for programs.

use crate::ledger::Found;
use guan_policy::negotiation::{EndCause, Negotiation, Role, State, Terms};
use serde_json::{Value, json};

/// All that is known of it.
pub fn document(found: &Found) -> Value {
    let negotiation = &found.negotiation;
    let pid = |role| negotiation.pid(role).map(|pid| pid.as_str());
    let terms = |terms: Option<&Terms>| {
        terms.and_then(|terms| serde_json::from_slice::<Value>(&terms.to_json()).ok())
    };
    json!({
        "pid": found.pid.as_str(), "role": negotiation.role().name(), "peer": negotiation.peer(),
        "consumer_pid": pid(Role::Consumer), "provider_pid": pid(Role::Provider),
        "state": negotiation.state().map(State::name), "proposals": negotiation.proposals(),
        "unanswered": negotiation.in_flight().map(|kind| kind.name()),
        "end": end(negotiation), "is_done": negotiation.is_done(),
        "proposal": terms(negotiation.proposal()), "agreement": terms(negotiation.agreement()),
    })
}

/// One line of a list.
pub fn line(found: &Found) -> String {
    let negotiation = &found.negotiation;
    let state = negotiation.state().map_or("(opening)", State::name);
    let about = negotiation.proposal().map_or_else(String::new, |terms| {
        let object: Value = serde_json::from_slice(&terms.to_json()).unwrap_or_default();
        let text = |key: &str| object[key].as_str().unwrap_or("?").to_owned();
        format!("  {} for {}", text("@id"), text("assignee"))
    });
    let end = end(negotiation).map_or_else(String::new, |end| format!("  ({end})"));
    format!("{state:<10} {}{about}{end}", found.pid.as_str())
}

fn end(negotiation: &Negotiation) -> Option<String> {
    let list = |reasons: &[String]| match reasons {
        [] => "no reason given".to_owned(),
        reasons => reasons.join("; "),
    };
    Some(match negotiation.end()? {
        EndCause::Concluded => "an agreement is in force".to_owned(),
        EndCause::TerminatedHere { reasons, .. } => format!("ended here: {}", list(reasons)),
        EndCause::TerminatedByPeer { reasons, .. } => {
            format!("ended by {}: {}", negotiation.peer(), list(reasons))
        }
        EndCause::Deadline { in_doubt: true, .. } => format!(
            "the deadline passed before {} confirmed; revoke the contract if it must not stand",
            negotiation.peer()
        ),
        EndCause::Deadline { .. } => "the deadline passed".to_owned(),
        EndCause::AttemptsSpent { message } => {
            format!("{} was sent as often as may be, without an answer", message.name())
        }
        EndCause::RefusedByPeer { message, reasons } => {
            format!("{} was refused: {}", message.name(), list(reasons))
        }
    })
}
