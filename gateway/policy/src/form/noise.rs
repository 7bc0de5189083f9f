//! Noise for differential privacy.
//!
//! Every result is a multiple of a power of two not below the scale of the noise, so that the low bits
//! of a double betray nothing of the value (Mironov 2012, the snapping mechanism). The caller
//! says the sensitivity: how much one reading can change the value.

use crate::duty::{MICRO, Mechanism, Noise};

/// A value with noise.
pub(super) fn add(
    noise: &Noise,
    value: f64,
    sensitivity: f64,
    entropy: &mut dyn FnMut() -> u64,
) -> f64 {
    let scale = scale(noise, sensitivity);
    let drawn = match noise.mechanism {
        Mechanism::Laplace => laplace(entropy),
        Mechanism::Gaussian { .. } => gaussian(entropy),
    };
    let grid = scale.log2().ceil().exp2();
    let noisy = ((value + scale * drawn) / grid).round() * grid;
    // Only a sensitivity near the largest double gets here.
    if noisy.is_finite() { noisy } else { 0.0 }
}

/// Laplace's b, or the standard deviation.
#[allow(clippy::cast_precision_loss, reason = "budgets are far below 2^53 millionths")]
fn scale(noise: &Noise, sensitivity: f64) -> f64 {
    let epsilon = noise.epsilon_micro as f64 / MICRO;
    match noise.mechanism {
        Mechanism::Laplace => sensitivity / epsilon,
        Mechanism::Gaussian { delta_pico } => {
            // The classical bound holds up to epsilon 1; beyond, more noise than needed is drawn.
            let delta = delta_pico as f64 / (MICRO * MICRO);
            sensitivity * (2.0 * (1.25 / delta).ln()).sqrt() / epsilon.min(1.0)
        }
    }
}

/// Above 0, at most 1, in steps of 2^-53.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
fn uniform(entropy: &mut dyn FnMut() -> u64) -> f64 {
    ((entropy() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

fn laplace(entropy: &mut dyn FnMut() -> u64) -> f64 {
    let magnitude = -uniform(entropy).ln();
    if entropy() & 1 == 1 { magnitude } else { -magnitude }
}

/// Box and Muller.
fn gaussian(entropy: &mut dyn FnMut() -> u64) -> f64 {
    let radius = (-2.0 * uniform(entropy).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(entropy)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::Period;

    /// SplitMix64: the tests need numbers, not secrets.
    fn numbers(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
    }

    const DRAWS: u32 = 100_000;
    /// A right generator stays within so many standard errors but for one test in 1,700,000.
    const ERRORS_MAX: f64 = 5.0;

    /// Mean, variance and fourth moment of what `add` should give, by the density of the noise.
    fn expected(noise: &Noise, value: f64, density: impl Fn(f64) -> f64) -> [f64; 3] {
        const STEP: f64 = 1e-4;
        let scale = scale(noise, 10.0);
        let grid = scale.log2().ceil().exp2();
        let points = || (-400_000..400_000).map(|place| (f64::from(place) + 0.5) * STEP);
        let sum = |of: &dyn Fn(f64) -> f64| -> f64 {
            let at = |x: f64| of(((value + scale * x) / grid).round() * grid) * density(x) * STEP;
            points().map(at).sum()
        };
        let mean = sum(&|y| y);
        [mean, sum(&|y| (y - mean).powi(2)), sum(&|y| (y - mean).powi(4))]
    }

    fn check(mechanism: Mechanism, epsilon_micro: u64, value: f64, seed: u64) {
        let noise = Noise { mechanism, epsilon_micro, budget_micro: 0, period: Period::Day };
        let mut entropy = numbers(seed);
        let draws: Vec<f64> = (0..DRAWS).map(|_| add(&noise, value, 10.0, &mut entropy)).collect();
        let [mean, variance, fourth] = match mechanism {
            Mechanism::Laplace => expected(&noise, value, |x| (-x.abs()).exp() / 2.0),
            Mechanism::Gaussian { .. } => {
                expected(&noise, value, |x| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt())
            }
        };
        let count = f64::from(DRAWS);
        let found = draws.iter().sum::<f64>() / count;
        let error = (variance / count).sqrt();
        let off = (found - mean) / error;
        assert!(off.abs() <= ERRORS_MAX, "{mechanism:?}: mean {found} for {mean}, {off} errors");
        let found = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / count;
        let error = ((fourth - variance * variance) / count).sqrt();
        let off = (found - variance) / error;
        assert!(off.abs() <= ERRORS_MAX, "{mechanism:?}: {found} for {variance}, {off} errors");
        let grid = scale(&noise, 10.0).log2().ceil().exp2();
        assert!(draws.iter().all(|draw| (draw / grid).fract() == 0.0));
        assert!(grid >= scale(&noise, 10.0), "the low bits betray nothing");
    }

    /// 16 comparisons: with entropy drawn anew, one run in 100,000 would raise a false alarm.
    #[test]
    fn noise_has_its_mean_and_variance() {
        let gaussian = Mechanism::Gaussian { delta_pico: 1_000_000 };
        for (mechanism, epsilon_micro) in [
            (Mechanism::Laplace, 1_000_000),
            (Mechanism::Laplace, 70_000),
            (gaussian, 999_999),
            (gaussian, 50_000),
        ] {
            check(mechanism, epsilon_micro, 50.0, 7);
            check(mechanism, epsilon_micro, 3.7, 8);
        }
    }

    /// The scales themselves: b of Laplace, and the deviation of the classical bound.
    #[test]
    fn noise_has_the_scale_of_its_epsilon() {
        let of = |mechanism, epsilon_micro| {
            scale(&Noise { mechanism, epsilon_micro, budget_micro: 0, period: Period::Day }, 10.0)
        };
        let near =
            |found: f64, expect: f64| assert!((found / expect - 1.0).abs() < 1e-9, "{found}");
        near(of(Mechanism::Laplace, 1_000_000), 10.0);
        near(of(Mechanism::Laplace, 100_000), 100.0);
        let gaussian = Mechanism::Gaussian { delta_pico: 1_000_000 };
        let deviation = 10.0 * (2.0 * 1.25e6_f64.ln()).sqrt();
        near(of(gaussian, 500_000), 2.0 * deviation);
        // The bound says nothing above 1: no less noise is drawn there.
        near(of(gaussian, 9_000_000), deviation);
    }
}
