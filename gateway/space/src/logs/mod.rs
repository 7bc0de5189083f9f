//! What the space does for evidence logs: it witnesses and mirrors those of the boxes, and says under which
//! keys it does so. Its own log is the store's.
//!
//! - `keys`: the three keys. `folders`: where state lies. `witnesses`: `add-checkpoint` of the boxes;
//!   `forks`: what convicts a log; `mirror`: leaves of one log, `mirrors` those of all boxes;
//!   `desk`: the task that answers the letters; `export`: a log as
//!   files for others; `deletions`: what was deleted goes into the own log, `acting`: what people did.

pub mod acting;
pub mod deletions;
pub mod desk;
pub mod export;
pub mod folders;
pub mod forks;
pub mod keys;
pub mod mirror;
pub mod mirrors;
pub mod rate;
pub mod witnesses;

#[cfg(test)]
pub(crate) mod tests;
