//! The rules in Rego, run by regorus: one engine, and one program of its virtual machine, for each contract.

use crate::Answers;
use crate::rules::{self, Limits};
use anyhow::{Context, Result};
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use regorus::{Engine, Rc, Value};
use serde_json::json;

const ENTRY: &str = "data.contract.allow";

pub(crate) struct Rego {
    engines: Vec<Engine>,
    machines: Vec<RegoVM>,
    inputs: Vec<Value>,
}

fn policy(contract: usize) -> String {
    let Limits { below, age_s, driving_from, measured_before_s, low } = rules::limits(contract);
    format!(
        "package contract
         import rego.v1

         default allow := false
         allow if {{ permitted; not forbidden }}
         permitted if {{ input.value < {below}; input.severity == 0 }}
         permitted if {{ input.severity != 2; input.age <= {age_s}; input.consent }}
         forbidden if {{ input.value >= {driving_from}; input.driving }}
         forbidden if {{ input.measured < {measured_before_s} }}
         forbidden if {{ input.value < {low} }}"
    )
}

fn input(number: u64) -> Result<Value> {
    let sample = rules::sample(number);
    let input = json!({
        "value": sample.value, "severity": sample.severity as u8,
        "age": sample.came_s - sample.measured_s, "measured": sample.measured_s,
        "consent": true, "driving": true, "point": sample.point,
    });
    Value::from_json_str(&input.to_string())
}

fn engine(contract: usize) -> Result<(Engine, RegoVM)> {
    let mut engine = Engine::new();
    engine.add_policy("contract.rego".to_owned(), policy(contract))?;
    let entry: Rc<str> = Rc::from(ENTRY);
    let compiled = engine.clone().compile_with_entrypoint(&entry)?;
    let program = Compiler::compile_from_policy(&compiled, &[ENTRY])?;
    let mut machine = RegoVM::new();
    machine.load_program(program);
    Ok((engine, machine))
}

impl Rego {
    pub(crate) fn new(contracts: usize, readings: u64) -> Result<Self> {
        let both: Result<Vec<(Engine, RegoVM)>> = (0..contracts).map(engine).collect();
        let (engines, machines) = both?.into_iter().unzip();
        Ok(Self { engines, machines, inputs: (0..readings).map(input).collect::<Result<_>>()? })
    }

    pub(crate) fn interpreted(&mut self) -> Result<Answers> {
        let mut answers = Vec::new();
        for input in &self.inputs {
            let answer = |engine: &mut Engine| -> Result<bool> {
                engine.set_input(input.clone());
                Ok(*engine.eval_rule(ENTRY.to_owned())?.as_bool()?)
            };
            answers.push(self.engines.iter_mut().map(answer).collect::<Result<_>>()?);
        }
        Ok(answers)
    }

    pub(crate) fn executed(&mut self) -> Result<Answers> {
        let mut answers = Vec::new();
        for input in &self.inputs {
            let answer = |machine: &mut RegoVM| -> Result<bool> {
                machine.set_input(input.clone());
                let result = machine.execute().ok().context("the machine failed")?;
                Ok(*result.as_bool()?)
            };
            answers.push(self.machines.iter_mut().map(answer).collect::<Result<_>>()?);
        }
        Ok(answers)
    }
}
