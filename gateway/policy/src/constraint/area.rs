//! Places on the ground, and whether a position lies in them.
//!
//! Coordinates are WGS-84 or CGCS2000 (BeiDou), which agree to centimetres. GCJ-02, the shifted
//! coordinates of Chinese maps, are off by hundreds of metres and are refused where a contract is read.

/// Most corners of a polygon.
pub(crate) const VERTICES_MAX: usize = 1024;
/// Metres of a degree of latitude on the mean sphere (6,371,008.8 m).
pub const METRES_PER_DEGREE: f64 = 111_195.08;

/// Degrees north and east.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    pub latitude: f64,
    pub longitude: f64,
}

impl Position {
    /// `None` off the globe.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let on_globe = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        on_globe.then_some(Self { latitude, longitude })
    }
}

/// A place that a contract names.
#[derive(Debug, Clone, PartialEq)]
pub enum Area {
    Circle {
        centre: Position,
        radius_m: f64,
    },
    /// At least three corners; the last joins the first. The box is south, north, west, east.
    Polygon {
        vertices: Vec<Position>,
        bounds: [f64; 4],
    },
}

impl Area {
    /// `None` without three corners, with too many, without an inside, or when it would span the date line.
    pub fn polygon(vertices: Vec<Position>) -> Option<Self> {
        if !(3..=VERTICES_MAX).contains(&vertices.len()) {
            return None;
        }
        let mut bounds = [90.0_f64, -90.0, 180.0, -180.0];
        for corner in &vertices {
            bounds[0] = bounds[0].min(corner.latitude);
            bounds[1] = bounds[1].max(corner.latitude);
            bounds[2] = bounds[2].min(corner.longitude);
            bounds[3] = bounds[3].max(corner.longitude);
        }
        // A line or a point holds nothing.
        let is_flat = bounds[0] >= bounds[1] || bounds[2] >= bounds[3];
        (!is_flat && bounds[3] - bounds[2] <= 180.0).then_some(Self::Polygon { vertices, bounds })
    }

    pub fn contains(&self, at: Position) -> bool {
        match self {
            Self::Circle { centre, radius_m } => distance_m(*centre, at) <= *radius_m,
            Self::Polygon { vertices, bounds } => {
                let [south, north, west, east] = *bounds;
                (south..=north).contains(&at.latitude)
                    && (west..=east).contains(&at.longitude)
                    && is_inside(vertices, at)
            }
        }
    }
}

/// Great-circle distance on the mean sphere; within 0.6 % of the ellipsoid.
pub(crate) fn distance_m(a: Position, b: Position) -> f64 {
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let cosines = a.latitude.to_radians().cos() * b.latitude.to_radians().cos();
    let h = half(b.latitude - a.latitude) + cosines * half(b.longitude - a.longitude);
    2.0 * METRES_PER_DEGREE.to_degrees() * h.min(1.0).sqrt().asin()
}

/// Counts how often a ray to the east crosses the border.
fn is_inside(vertices: &[Position], at: Position) -> bool {
    let mut inside = false;
    let mut previous = vertices[vertices.len() - 1];
    for &corner in vertices {
        if (corner.latitude > at.latitude) != (previous.latitude > at.latitude) {
            let share = (at.latitude - corner.latitude) / (previous.latitude - corner.latitude);
            let crossing = corner.longitude + share * (previous.longitude - corner.longitude);
            inside ^= at.longitude < crossing;
        }
        previous = corner;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latitude: f64, longitude: f64) -> Position {
        Position::new(latitude, longitude).unwrap()
    }

    fn check(area: &Area, position: (f64, f64), expect: bool) {
        assert_eq!(area.contains(at(position.0, position.1)), expect, "{area:?} {position:?}");
    }

    #[test]
    fn polygons() {
        // An L, so that the notch is in the bounds but not in the area.
        let corners = [(0.0, 0.0), (0.0, 2.0), (1.0, 2.0), (1.0, 1.0), (2.0, 1.0), (2.0, 0.0)];
        let area = Area::polygon(corners.iter().map(|(a, b)| at(*a, *b)).collect()).unwrap();
        check(&area, (0.5, 0.5), true);
        check(&area, (0.5, 1.9), true);
        check(&area, (1.5, 1.5), false);
        check(&area, (1.5, 0.5), true);
        check(&area, (-0.1, 0.5), false);
        check(&area, (0.5, 2.1), false);
    }

    #[test]
    fn circles() {
        // Beijing to Shanghai is 1,067 km.
        let (beijing, shanghai) = (at(39.9042, 116.4074), at(31.2304, 121.4737));
        let distance = distance_m(beijing, shanghai);
        assert!((distance - 1_067_000.0).abs() < 3_000.0, "{distance}");
        check(&Area::Circle { centre: beijing, radius_m: 1_100_000.0 }, (31.2304, 121.4737), true);
        check(&Area::Circle { centre: beijing, radius_m: 1_000_000.0 }, (31.2304, 121.4737), false);
    }

    #[test]
    fn what_is_no_area() {
        assert!(Area::polygon(vec![at(0.0, 0.0), at(1.0, 1.0)]).is_none());
        assert!(Area::polygon(vec![at(0.0, 0.0); VERTICES_MAX + 1]).is_none());
        assert!(Area::polygon(vec![at(0.0, -170.0), at(1.0, 170.0), at(2.0, 0.0)]).is_none());
        assert!(Position::new(91.0, 0.0).is_none());
        assert!(Position::new(0.0, f64::NAN).is_none());
    }
}
