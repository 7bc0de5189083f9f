//! A merging t-digest (Dunning and Ertl 2019): percentiles of a stream in bounded memory, exact at the
//! ends, and the same for the same values in the same order.

use guan_model::bytes_io::{ReadFault, Reader, Writer};

/// Compression: more centroids, better percentiles.
const COMPRESSION: f64 = 100.0;
/// Values that wait to be merged.
const WAITING_MAX: usize = 64;
/// Most centroids; the scale function gives fewer.
pub(super) const CENTROIDS_MAX: usize = 256;
/// Most bytes of a record.
pub(super) const QUANTILES_BYTES_MAX: usize = 16 * CENTROIDS_MAX + 8 * WAITING_MAX + 4;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Centroid {
    mean: f64,
    weight: f64,
}

/// Values seen, as centroids. Never holds what is not finite.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Quantiles {
    centroids: Vec<Centroid>,
    waiting: Vec<f64>,
}

impl Quantiles {
    pub(super) fn add(&mut self, value: f64) {
        assert!(value.is_finite(), "windows take finite values only");
        self.waiting.push(value);
        if self.waiting.len() >= WAITING_MAX {
            self.merge();
        }
    }

    /// The value below which a share of all values lies; `None` without values.
    pub(super) fn at(&mut self, share: f64, min: f64, max: f64) -> Option<f64> {
        self.merge();
        let total: f64 = self.centroids.iter().map(|one| one.weight).sum();
        let (first, last) = (self.centroids.first()?, self.centroids.last()?);
        let rank = share * total;
        if rank < first.weight / 2.0 {
            return Some(between(min, first.mean, rank / (first.weight / 2.0)));
        }
        let mut before = 0.0;
        for pair in self.centroids.windows(2) {
            let here = before + pair[0].weight / 2.0;
            let next = before + pair[0].weight + pair[1].weight / 2.0;
            if rank < next {
                return Some(between(pair[0].mean, pair[1].mean, (rank - here) / (next - here)));
            }
            before += pair[0].weight;
        }
        let here = total - last.weight / 2.0;
        Some(between(last.mean, max, (rank - here) / (total - here)))
    }

    /// Joins neighbours as long as the scale function k1 grows by no more than one.
    fn merge(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let new = self.waiting.drain(..).map(|mean| Centroid { mean, weight: 1.0 });
        let mut all: Vec<Centroid> = self.centroids.drain(..).chain(new).collect();
        all.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        let total: f64 = all.iter().map(|one| one.weight).sum();
        let scale = |share: f64| COMPRESSION * (2.0 * share.min(1.0) - 1.0).asin();
        let (mut before, mut merged): (f64, Vec<Centroid>) = (0.0, Vec::new());
        let mut limit = scale(0.0) + std::f64::consts::PI;
        for one in all {
            match merged.last_mut() {
                Some(last) if scale((before + last.weight + one.weight) / total) <= limit => {
                    let weight = last.weight + one.weight;
                    last.mean = between(last.mean, one.mean, one.weight / weight);
                    last.weight = weight;
                }
                last => {
                    before += last.map_or(0.0, |last| last.weight);
                    limit = scale(before / total) + std::f64::consts::PI;
                    merged.push(one);
                }
            }
        }
        assert!(merged.len() <= CENTROIDS_MAX, "{} centroids", merged.len());
        self.centroids = merged;
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.varint(self.centroids.len() as u64);
        for one in &self.centroids {
            out.u64(one.mean.to_bits());
            out.u64(one.weight.to_bits());
        }
        out.varint(self.waiting.len() as u64);
        self.waiting.iter().for_each(|value| out.u64(value.to_bits()));
    }

    /// `None` for values that no window can have.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, ReadFault> {
        let mut digest = Self::default();
        let mut is_sound = true;
        for _ in 0..reader.varint()? {
            let (mean, weight) = (f64::from_bits(reader.u64()?), f64::from_bits(reader.u64()?));
            is_sound &= mean.is_finite() && weight.is_finite() && weight >= 1.0;
            digest.centroids.push(Centroid { mean, weight });
        }
        for _ in 0..reader.varint()? {
            let value = f64::from_bits(reader.u64()?);
            is_sound &= value.is_finite();
            digest.waiting.push(value);
        }
        is_sound &= digest.centroids.len() <= CENTROIDS_MAX && digest.waiting.len() < WAITING_MAX;
        Ok(is_sound.then_some(digest))
    }
}

fn between(a: f64, b: f64, share: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    // Not a + (b - a) * share: the difference of two doubles may be none, their mean is always one.
    (a * (1.0 - share) + b * share).clamp(a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_close_and_exact_at_the_ends() {
        let mut digest = Quantiles::default();
        // A permutation of 0..10007, which is prime.
        for step in 0..10_007_u32 {
            digest.add(f64::from(step * 4_099 % 10_007));
        }
        for (share, allowed) in [(0.05, 30.0), (0.5, 150.0), (0.9, 60.0), (0.99, 15.0)] {
            let found = digest.at(share, 0.0, 10_006.0).unwrap();
            assert!((found - share * 10_007.0).abs() <= allowed, "{share}: {found}");
        }
        assert_eq!(digest.at(0.0, 0.0, 10_006.0), Some(0.0));
        assert_eq!(digest.at(1.0, 0.0, 10_006.0), Some(10_006.0));
        assert_eq!(Quantiles::default().at(0.5, 0.0, 0.0), None);
    }

    /// A record that cannot be read again would keep the box from starting.
    #[test]
    fn the_largest_doubles_leave_a_record_that_can_be_read() {
        let mut digest = Quantiles::default();
        for place in 0..500 {
            digest.add(if place % 2 == 0 { f64::MAX } else { f64::MIN });
        }
        let mut out = Writer::new();
        digest.write(&mut out);
        let read = Quantiles::read(&mut Reader::new(&out.finish())).unwrap();
        assert_eq!(read.as_ref(), Some(&digest));
        for share in [0.05, 0.5, 0.95] {
            let found = digest.at(share, f64::MIN, f64::MAX).unwrap();
            assert!(found.is_finite(), "{share}: {found}");
        }
    }

    proptest! {
        #[test]
        fn bounded_within_its_values_and_through_its_bytes(
            values in prop::collection::vec(-1e300_f64..1e300, 1..600), share in 0.0_f64..=1.0,
        ) {
            let mut digest = Quantiles::default();
            values.iter().for_each(|value| digest.add(*value));
            let mut out = Writer::new();
            digest.write(&mut out);
            let bytes = out.finish();
            let again = Quantiles::read(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!(again.as_ref(), Some(&digest));
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let found = digest.at(share, min, max).unwrap();
            prop_assert!(min <= found && found <= max, "{} {} {}", min, found, max);
        }
    }
}
