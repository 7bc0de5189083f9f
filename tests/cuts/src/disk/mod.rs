//! A disk whose power can be cut: `image` is the model, `volume` shows it to programs (FUSE).

mod image;
mod volume;

pub use image::{Image, Stuck};
pub use volume::Volume;
