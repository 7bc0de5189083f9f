//! Which mapping takes a topic, and which point its levels name.
//!
//! The filters form a tree of levels, so that a lookup costs by the depth of the topic and not by
//! the number of mappings. Where several filters match, the first mapping of the file wins.

use super::refusal::MappingFault;
use guan_model::{DescriptorTable, PointDescriptor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most levels of a topic filter; deeper topics are still matched by `#`.
pub const FILTER_LEVELS_MAX: usize = 32;

/// The declared points by name; unlike the table's own it is asked without making a `PointName`.
pub(super) type PointIndex = BTreeMap<Box<str>, Arc<PointDescriptor>>;

/// Topic filters (MQTT 5, section 4.7) as a tree; each leaf is the number of a mapping.
#[derive(Debug, Default)]
pub(super) struct FilterTree {
    children: BTreeMap<Box<str>, FilterTree>,
    /// The subtree below `+`.
    any: Option<Box<FilterTree>>,
    /// A filter that ends with `#` here.
    rest: Option<usize>,
    /// A filter that ends here.
    end: Option<usize>,
}

impl FilterTree {
    /// A filter that came before stays in force.
    pub(super) fn insert(&mut self, filter: &str, mapping: usize) -> Result<(), &'static str> {
        if filter.is_empty() || filter.len() > usize::from(u16::MAX) {
            return Err("give it 1 to 65535 bytes");
        }
        let levels: Vec<&str> = filter.split('/').collect();
        if levels.len() > FILTER_LEVELS_MAX {
            return Err("it has more than 32 levels");
        }
        let last = levels.len() - 1;
        let mut node = self;
        for (index, level) in levels.into_iter().enumerate() {
            match level {
                "#" if index == last => {
                    node.rest.get_or_insert(mapping);
                    return Ok(());
                }
                "#" => return Err("'#' may only stand at the end"),
                "+" => node = node.any.get_or_insert_default(),
                plain if plain.contains(['+', '#', '\0']) => {
                    return Err("'+' and '#' must fill a whole level");
                }
                plain => node = node.children.entry(Box::from(plain)).or_default(),
            }
        }
        node.end.get_or_insert(mapping);
        Ok(())
    }

    /// The first mapping that takes the topic.
    pub(super) fn find(&self, topic: &str) -> Option<usize> {
        // Wildcards at the first level leave topics of the server itself alone (section 4.7.2).
        self.find_below(Some(topic), !topic.starts_with('$'))
    }

    /// `topic` is what is left, `None` behind the last level. Goes no deeper than the filters.
    fn find_below(&self, topic: Option<&str>, wildcards: bool) -> Option<usize> {
        let rest = self.rest.filter(|_| wildcards);
        let Some(topic) = topic else {
            return [rest, self.end].into_iter().flatten().min();
        };
        let (level, below) = match topic.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (topic, None),
        };
        let exact = self.children.get(level).and_then(|node| node.find_below(below, true));
        let any = self.any.as_ref().filter(|_| wildcards);
        let any = any.and_then(|node| node.find_below(below, true));
        [rest, exact, any].into_iter().flatten().min()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// A level of the topic, counted from 0.
    Level(usize),
}

/// The name of a point with places for levels of the topic: `n2k.{2}.{3}`.
#[derive(Debug, Clone)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// The point, where the name has no places.
    fixed: Option<Arc<PointDescriptor>>,
}

impl Template {
    /// Returns it with all declared points that it can name; each of them must suit the mapping.
    pub(super) fn compile(
        text: &str,
        filter: &str,
        mapping: usize,
        table: &DescriptorTable,
    ) -> Result<(Self, Vec<Arc<PointDescriptor>>), MappingFault> {
        let fault = |why| MappingFault::Template { mapping, template: text.to_owned(), why };
        let parts = Self::parse(text).map_err(fault)?;
        let levels = if filter.ends_with('#') { usize::MAX } else { filter.split('/').count() };
        if parts.iter().any(|part| matches!(part, Part::Level(number) if *number >= levels)) {
            return Err(fault("its topic filter has fewer levels"));
        }
        let fits: Vec<_> = match parts.as_slice() {
            [Part::Literal(name)] => table.by_name(name).cloned().into_iter().collect(),
            _ => table.iter().filter(|p| may_name(&parts, p.name.as_str())).cloned().collect(),
        };
        if fits.is_empty() {
            return Err(MappingFault::NoSuchPoint { mapping, template: text.to_owned() });
        }
        let is_fixed = matches!(parts.as_slice(), [Part::Literal(_)]);
        let fixed = is_fixed.then(|| fits[0].clone());
        Ok((Self { parts, fixed }, fits))
    }

    fn parse(text: &str) -> Result<Vec<Part>, &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, place)) = rest.split_once('{') {
            let (number, after) = place.split_once('}').ok_or("a '{' is not closed")?;
            let number: usize =
                number.parse().map_err(|_| "write {N} for level N of the topic, from {0}")?;
            if !before.is_empty() {
                parts.push(Part::Literal(Box::from(before)));
            }
            parts.push(Part::Level(number));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(Box::from(rest)));
        }
        Ok(parts)
    }

    /// The point that the topic names; the name that was looked for if there is none.
    pub(super) fn resolve<'a>(
        &'a self,
        topic: &str,
        points: &'a PointIndex,
    ) -> Result<&'a Arc<PointDescriptor>, String> {
        if let Some(point) = &self.fixed {
            return Ok(point);
        }
        let mut name = String::with_capacity(guan_model::ids::POINT_NAME_BYTES_MAX);
        for part in &self.parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Level(number) => name.push_str(topic.split('/').nth(*number).unwrap_or("")),
            }
        }
        match points.get(name.as_str()) {
            Some(point) => Ok(point),
            None => Err(name),
        }
    }
}

/// Whether a template can name a point: its fixed texts stand in the name, in order.
fn may_name(parts: &[Part], name: &str) -> bool {
    let mut rest = name;
    let mut anchored = true;
    for part in parts {
        match part {
            Part::Level(_) => anchored = false,
            Part::Literal(text) if anchored => match rest.strip_prefix(&**text) {
                Some(after) => rest = after,
                None => return false,
            },
            Part::Literal(text) => match rest.find(&**text) {
                Some(at) => {
                    rest = &rest[at + text.len()..];
                    anchored = true;
                }
                None => return false,
            },
        }
    }
    // A text at the end must end the name; an earlier find of it is no proof against that.
    match parts.last() {
        Some(Part::Literal(text)) => name.ends_with(&**text),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filters: &[&str], topic: &str, expect: Option<usize>) {
        let mut tree = FilterTree::default();
        for (number, filter) in filters.iter().enumerate() {
            tree.insert(filter, number).unwrap();
        }
        assert_eq!(tree.find(topic), expect, "{topic} in {filters:?}");
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        check(&["a/b"], "a/b", Some(0));
        check(&["a/b"], "a/b/c", None);
        check(&["a/b"], "a", None);
        check(&["a/+"], "a/", Some(0));
        check(&["a/+"], "a", None);
        check(&["a/+/c"], "a/b/c", Some(0));
        check(&["a/#"], "a", Some(0));
        check(&["a/#"], "a/b/c/d", Some(0));
        check(&["#"], "/", Some(0));
        check(&["#", "+/x"], "$SYS/x", None);
        check(&["$SYS/#"], "$SYS/x", Some(0));
        check(&["+/+"], "/finance", Some(0));
        check(&["+"], "/finance", None);
    }

    #[test]
    fn the_first_mapping_wins() {
        check(&["a/#", "a/b"], "a/b", Some(0));
        check(&["a/b", "a/#"], "a/b", Some(0));
        check(&["x", "a/+", "a/b"], "a/b", Some(1));
        check(&["a/b", "a/b"], "a/b", Some(0));
        check(&["a/+/c", "a/b/#", "#"], "a/b/d", Some(1));
    }

    #[test]
    fn bad_filters_are_refused() {
        let deepest = ["l"; FILTER_LEVELS_MAX].join("/");
        let check = |filter: &str, valid: bool| {
            assert_eq!(FilterTree::default().insert(filter, 0).is_ok(), valid, "{filter:?}");
        };
        check("", false);
        check("a/#/b", false);
        check("a#", false);
        check("a/b+", false);
        check(&deepest, true);
        check(&format!("{deepest}/l"), false);
    }

    #[test]
    fn templates_fit_names() {
        let check = |template: &str, name: &str, expect: bool| {
            let parts = Template::parse(template).unwrap();
            assert_eq!(may_name(&parts, name), expect, "{template} for {name}");
        };
        check("n2k.{2}.{3}", "n2k.1.2", true);
        check("n2k.{2}.{3}", "other.1.2", false);
        check("{0}.t", "a.t.t", true);
        check("{0}.t", "a.tt", false);
        check("{0}", "anything", true);
        assert!(Template::parse("a{").is_err());
        assert!(Template::parse("a{x}").is_err());
        assert!(Template::parse("").is_err());
    }
}
