//! Turtle files as sets of triples. Every file is a graph of its own: the suite uses one name for
//! different constraints in different files.

use anyhow::Context;
use oxrdf::{NamedOrBlankNode, Term, Triple};
use oxttl::TurtleParser;
use std::path::{Path, PathBuf};

pub(crate) const ODRL: &str = "http://www.w3.org/ns/odrl/2/";
pub(crate) const REPORT: &str = "https://w3id.org/force/compliance-report#";
const TYPE: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type";

/// The triples of one file.
pub(crate) struct Graph {
    pub(crate) path: PathBuf,
    triples: Vec<(String, String, String)>,
}

impl Graph {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut triples = Vec::new();
        for triple in TurtleParser::new().for_slice(&bytes) {
            let Triple { subject, predicate, object } =
                triple.with_context(|| format!("{} is not Turtle", path.display()))?;
            let subject = match subject {
                NamedOrBlankNode::NamedNode(node) => node.into_string(),
                NamedOrBlankNode::BlankNode(node) => node.to_string(),
            };
            let object = match object {
                Term::NamedNode(node) => node.into_string(),
                Term::Literal(literal) => literal.value().to_owned(),
                other => other.to_string(),
            };
            triples.push((subject, predicate.into_string(), object));
        }
        Ok(Self { path: path.to_path_buf(), triples })
    }

    pub(crate) fn all(&self, subject: &str, predicate: &str) -> Vec<&str> {
        let of = |(s, p, _): &&(String, String, String)| s == subject && p == predicate;
        self.triples.iter().filter(of).map(|(_, _, object)| object.as_str()).collect()
    }

    pub(crate) fn one(&self, subject: &str, predicate: &str) -> Option<&str> {
        self.all(subject, predicate).first().copied()
    }

    pub(crate) fn pairs(&self, predicate: &str) -> impl Iterator<Item = (&str, &str)> {
        let of = move |(_, p, _): &&(String, String, String)| p == predicate;
        self.triples
            .iter()
            .filter(of)
            .map(|(subject, _, object)| (subject.as_str(), object.as_str()))
    }

    pub(crate) fn of_type(&self, kind: &str) -> Vec<&str> {
        self.pairs(TYPE).filter(|(_, object)| *object == kind).map(|(subject, _)| subject).collect()
    }

    pub(crate) fn is_a(&self, subject: &str, kind: &str) -> bool {
        self.all(subject, TYPE).contains(&kind)
    }

    pub(crate) fn defines(&self, subject: &str) -> bool {
        self.triples.iter().any(|(s, p, _)| s == subject && p == TYPE)
    }
}
