//! Which points tell where the box is and what happens around it, for contracts that ask.

use crate::schema::{Kind, Node};
use guan_model::{DescriptorTable, PointId, PointName};

/// Points whose values are state, by what they tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurroundingsConfig {
    /// In degrees north and east, WGS-84; both or none.
    pub position: Option<(PointId, PointId)>,
    /// True while the driver agrees.
    pub consent: Option<PointId>,
    /// One of parked, driving, charging, service.
    pub vehicle_state: Option<PointId>,
}

pub(super) fn read_surroundings(
    root: &Node<'_>,
    descriptors: Option<&DescriptorTable>,
) -> SurroundingsConfig {
    let node = root.table("surroundings");
    let kind = Kind { name: "name", accepted: "the name of a point of this file" };
    let point = |key, about: &str| {
        let found = node.optional_text(key, about, &kind, |text| {
            PointName::parse(text).map_err(|fault| fault.to_string())
        })?;
        // Without a table its own faults say enough.
        let known = descriptors?.by_name(found.as_str());
        if known.is_none() {
            node.fault(key, format!("= {found}: no [[point]] has this name"));
        }
        known.map(|point| point.id)
    };
    let latitude = point("latitude", "Point with the box's latitude in degrees, WGS-84.");
    let longitude =
        point("longitude", "Point with its longitude; in the same message as latitude.");
    let consent = point("consent", "Point that is true while the driver agrees to share data.");
    let about = "Point with one of the texts parked, driving, charging, service.";
    let vehicle_state = point("vehicle_state", about);
    if node.has("latitude") != node.has("longitude") {
        node.fault("longitude", "and latitude belong together: give both or none");
    }
    node.finish();
    SurroundingsConfig { position: latitude.zip(longitude), consent, vehicle_state }
}
