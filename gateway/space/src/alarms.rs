//! What an operator of the space should look at: boxes that are not what they were, duties not done.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

/// Most that are kept; later ones push out earlier ones.
pub const ALARMS_MAX: usize = 16;

/// Shared by all that see boxes come.
#[derive(Debug, Clone, Default)]
pub struct Alarms(Arc<Mutex<Vec<String>>>);

impl Alarms {
    pub fn raise(&self, who: &impl Display, text: &str) {
        tracing::error!(%who, alarm = %text, "an operator should look at this");
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{who}: {text}");
        if !alarms.contains(&line) {
            if alarms.len() == ALARMS_MAX {
                alarms.remove(0);
            }
            alarms.push(line);
        }
    }

    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_model::BoxId;

    #[test]
    fn each_is_kept_once_and_the_oldest_go() {
        let (alarms, box_id) = (Alarms::default(), BoxId::parse("box-1").unwrap());
        for number in 0..=ALARMS_MAX {
            alarms.raise(&box_id, &number.to_string());
            alarms.raise(&box_id, &number.to_string());
        }
        let kept = alarms.list();
        assert_eq!((kept.len(), kept[0].as_str()), (ALARMS_MAX, "box-1: 1"));
    }
}
