//! The rules in Cedar: one policy set for each contract.

use crate::Answers;
use crate::rules::{self, Limits};
use anyhow::Result;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};

pub(crate) struct Cedar {
    authorizer: Authorizer,
    entities: Entities,
    policies: Vec<PolicySet>,
    requests: Vec<Request>,
}

fn policies(contract: usize) -> String {
    let Limits { below, age_s, driving_from, measured_before_s, low } = rules::limits(contract);
    format!(
        "permit(principal, action, resource) when {{
             context.value < {below} && context.severity == 0 }};
         permit(principal, action, resource) when {{
             context.severity != 2 && context.age <= {age_s} && context.consent }};
         forbid(principal, action, resource) when {{
             context.value >= {driving_from} && context.driving }};
         forbid(principal, action, resource) when {{
             context.measured < {measured_before_s} || context.value < {low} }};"
    )
}

fn request(number: u64) -> Result<Request> {
    let sample = rules::sample(number);
    let long = RestrictedExpression::new_long;
    let context = Context::from_pairs([
        ("value".to_owned(), long(sample.value)),
        ("severity".to_owned(), long(sample.severity as i64)),
        ("age".to_owned(), long(sample.came_s - sample.measured_s)),
        ("measured".to_owned(), long(sample.measured_s)),
        ("consent".to_owned(), RestrictedExpression::new_bool(true)),
        ("driving".to_owned(), RestrictedExpression::new_bool(true)),
    ])?;
    let point = format!("Point::\"{}\"", sample.point);
    let uid = |text: &str| -> Result<EntityUid> { Ok(text.parse()?) };
    let (box_, deliver) = (uid("Box::\"demo\"")?, uid("Action::\"deliver\"")?);
    Ok(Request::new(box_, deliver, uid(&point)?, context, None)?)
}

impl Cedar {
    pub(crate) fn new(contracts: usize, readings: u64) -> Result<Self> {
        let policies: Result<Vec<PolicySet>, _> =
            (0..contracts).map(|contract| policies(contract).parse()).collect();
        Ok(Self {
            authorizer: Authorizer::new(),
            entities: Entities::empty(),
            policies: policies?,
            requests: (0..readings).map(request).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn answers(&self) -> Answers {
        let answer = |request: &Request, policies: &PolicySet| {
            let response = self.authorizer.is_authorized(request, policies, &self.entities);
            response.decision() == Decision::Allow
        };
        let answers = |request: &Request| {
            self.policies.iter().map(|policies| answer(request, policies)).collect()
        };
        self.requests.iter().map(answers).collect()
    }
}
