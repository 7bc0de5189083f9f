//! What a box has to offer: datasets with schema, class, quality and offers, as a signed DCAT 3 document.
//!
//! `quality` counts while readings come in, `identifier` names what is published, `dcat` writes and reads
//! the document, `search` finds datasets in many of them. A catalogue that was read is understood whole.
//!
//! Never here: files, sockets, clocks, remote JSON-LD contexts.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod dcat;
pub mod identifier;
pub mod quality;
pub mod search;

pub use catalogue::{Catalogue, CatalogueError, Dataset, Offer, Point, Service};
pub use identifier::{Identifier, IdentifierFault, Kind, Namer, Subject};
pub use quality::{Day, Figures, Share};
