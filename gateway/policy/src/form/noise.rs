//! Noise for differential privacy.
//!
//! Every result is a multiple of a power of two not below the scale of the noise, so that the low bits
//! of a double betray nothing of the value (Mironov 2012, the snapping mechanism). The sensitivity is
//! the range to which the contract clamps the values.

use crate::duty::{MICRO, Mechanism, Noise};

/// A value with noise.
pub(super) fn add(noise: &Noise, value: f64, range: f64, entropy: &mut dyn FnMut() -> u64) -> f64 {
    let scale = scale(noise, range);
    let drawn = match noise.mechanism {
        Mechanism::Laplace => laplace(entropy),
        Mechanism::Gaussian { .. } => gaussian(entropy),
    };
    let grid = scale.log2().ceil().exp2();
    let noisy = ((value + scale * drawn) / grid).round() * grid;
    // Only a range near the largest double gets here.
    if noisy.is_finite() { noisy } else { 0.0 }
}

/// Laplace's b, or the standard deviation.
#[allow(clippy::cast_precision_loss, reason = "budgets are far below 2^53 millionths")]
fn scale(noise: &Noise, range: f64) -> f64 {
    let epsilon = noise.epsilon_micro as f64 / MICRO;
    match noise.mechanism {
        Mechanism::Laplace => range / epsilon,
        Mechanism::Gaussian { delta_pico } => {
            // The classical bound holds up to epsilon 1; beyond, more noise than needed is drawn.
            let delta = delta_pico as f64 / (MICRO * MICRO);
            range * (2.0 * (1.25 / delta).ln()).sqrt() / epsilon.min(1.0)
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

    /// Mean and mean distance of many draws around 50 in a range of 10.
    fn check(mechanism: Mechanism, epsilon_micro: u64, spread: f64) {
        let noise = Noise { mechanism, epsilon_micro, budget_micro: 0, period: Period::Day };
        let mut entropy = numbers(7);
        let draws: Vec<f64> =
            (0..40_000).map(|_| add(&noise, 50.0, 10.0, &mut entropy) - 50.0).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        let distance = draws.iter().map(|draw| draw.abs()).sum::<f64>() / 40_000.0;
        assert!(mean.abs() < spread * 0.1, "{mechanism:?}: mean {mean}");
        assert!((distance / spread - 1.0).abs() < 0.25, "{mechanism:?}: {distance} for {spread}");
        let grid = scale(&noise, 10.0).log2().ceil().exp2();
        assert!(draws.iter().all(|draw| ((draw + 50.0) / grid).fract() == 0.0));
    }

    #[test]
    fn noise_has_its_spread() {
        // The mean distance of Laplace is b, of a normal distribution 0.798 of its deviation.
        check(Mechanism::Laplace, 1_000_000, 10.0);
        check(Mechanism::Laplace, 100_000, 100.0);
        let deviation = 10.0 * (2.0 * 1.25e6_f64.ln()).sqrt();
        check(Mechanism::Gaussian { delta_pico: 1_000_000 }, 1_000_000, 0.798 * deviation);
        check(Mechanism::Gaussian { delta_pico: 1_000_000 }, 9_000_000, 0.798 * deviation);
    }
}
