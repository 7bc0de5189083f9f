//! Why: each rule of a contract about one reading, with the answer to each of its tests.
//!
//! Uses the programs of the plan, but keeps what the plan leaves out. Slow, for people and for judges.

use crate::action::Action;
use crate::constraint::Constraint;
use crate::contract::{Contract, RuleKind};
use crate::plan::{Collections, Counted, Fixed, Live, Reading};
use crate::situation::Situation;
use crate::truth::Truth;
use crate::usage::Usage;
use guan_model::descriptor::PointDescriptor;
use std::sync::Arc;

/// What one rule says.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleReport {
    pub rule: Arc<str>,
    pub kind: RuleKind,
    /// Whether the rule is about the action.
    pub covers_action: bool,
    pub constraint: Truth,
    /// Each test as the contract writes it, and its answer.
    pub tests: Vec<(Arc<str>, Truth)>,
    /// Whether somebody did not do what the permission asks in return.
    pub duty_violated: bool,
    /// The permission lets the reading go, or the prohibition forbids it.
    pub is_active: bool,
}

/// A question: may this be done with a reading of this point?
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    pub action: Action,
    pub point: &'q PointDescriptor,
    pub collections: &'q Collections,
    pub situation: &'q Situation,
    pub reading: &'q Reading,
    /// Without it tests of counters are unknown.
    pub usage: Option<&'q Usage>,
}

impl Contract {
    /// One report for each rule, in the order of the contract.
    pub fn explain(&self, question: &Question<'_>) -> Vec<RuleReport> {
        let Question { action, point, collections, situation, reading, usage } = *question;
        let fixed = Fixed { contract: self, point, collections };
        let report = |rule: &crate::contract::Rule| {
            let counted = usage.map(|usage| Counted { contract: self.id(), rule: &rule.id, usage });
            let live = Live { situation, reading, counted };
            let truth = |constraint: &Constraint| fixed.compile(constraint).truth(live);
            let covers_action = match rule.kind {
                RuleKind::Permission => rule.actions.covers(action),
                RuleKind::Prohibition => rule.actions.forbids(action),
            };
            let constraint = truth(&rule.constraint);
            let duty_violated = situation.is_violated(self.id(), &rule.id);
            let leaves = rule.constraint.leaves().into_iter();
            RuleReport {
                rule: rule.id.clone(),
                kind: rule.kind,
                covers_action,
                constraint,
                tests: leaves
                    .map(|leaf| (leaf.text.clone(), truth(&Constraint::Test(leaf.clone()))))
                    .collect(),
                duty_violated,
                is_active: covers_action
                    && match rule.kind {
                        RuleKind::Permission => constraint == Truth::True && !duty_violated,
                        RuleKind::Prohibition => constraint != Truth::False,
                    },
            }
        };
        self.rules().iter().map(report).collect()
    }
}
