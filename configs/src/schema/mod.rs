//! Reads one TOML document key by key. Each read declares the key: its kind, range, default and meaning.
//!
//! The declarations run over a document to parse it, and over nothing to describe it. Faults are collected;
//! a read that fails gives a stand-in, so that all faults come out at once, and the caller never sees a
//! configuration that was made with one.

mod node;
mod view;

pub(crate) use node::{Kind, Node, shown};
pub(crate) use view::to_toml;
pub use view::{Effective, KeyReference, Value};

use crate::fault::{ConfigFault, ConfigFaults};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Largest configuration file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// What all nodes of a document share.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Folder that relative paths count from.
    base: PathBuf,
    /// Offset of each line's first byte.
    lines: Vec<usize>,
    faults: Vec<ConfigFault>,
    effective: Vec<Effective>,
    reference: Vec<KeyReference>,
    is_describing: bool,
}

impl Context {
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }
}

/// A parsed document with what came out of it beside the types.
pub(crate) struct Parsed<T> {
    pub(crate) config: T,
    pub(crate) effective: Vec<Effective>,
}

/// Runs the declarations over a document. `None` from `read` must have left a fault.
pub(crate) fn parse<T>(
    text: &str,
    file: &str,
    base: &Path,
    read: impl FnOnce(&Node<'_>) -> Option<T>,
) -> Result<Parsed<T>, ConfigFaults> {
    let whole = |line, text: String| ConfigFaults {
        file: file.to_owned(),
        faults: vec![ConfigFault { line, key: String::new(), text }],
    };
    if text.len() > CONFIG_BYTES_MAX {
        let length = text.len();
        let text = format!("the file has {length} bytes; the limit is {CONFIG_BYTES_MAX}");
        return Err(whole(0, text));
    }
    let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
    let lines: Vec<usize> = std::iter::once(0).chain(starts).collect();
    let context = Context { base: base.to_path_buf(), lines, ..Context::default() };
    let table = DeTable::parse(text).map_err(|fault| {
        let line = fault.span().map_or(0, |span| context.line(span.start));
        whole(line, format!("not valid TOML: {}", fault.message()))
    })?;
    let context = RefCell::new(context);
    let root = Node::root(&context, Some(table.get_ref()));
    let config = read_versioned(&root, read);
    drop(root);
    let mut context = context.into_inner();
    match config {
        Some(config) if context.faults.is_empty() => {
            Ok(Parsed { config, effective: context.effective })
        }
        _ => {
            assert!(!context.faults.is_empty(), "a document without faults gives a configuration");
            context.faults.sort_by_key(|fault| fault.line);
            Err(ConfigFaults { file: file.to_owned(), faults: context.faults })
        }
    }
}

/// Runs the declarations over nothing.
pub(crate) fn describe<T>(read: impl FnOnce(&Node<'_>) -> Option<T>) -> Vec<KeyReference> {
    let context = RefCell::new(Context { is_describing: true, ..Context::default() });
    let root = Node::root(&context, None);
    let _ = read_versioned(&root, read);
    drop(root);
    context.into_inner().reference
}

fn read_versioned<T>(root: &Node<'_>, read: impl FnOnce(&Node<'_>) -> Option<T>) -> Option<T> {
    let supported = crate::SCHEMA;
    root.integer("schema", "Version of this file's format.", supported..=supported, None);
    let config = read(root);
    root.finish();
    config
}
