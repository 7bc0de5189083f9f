//! Exact arithmetic on numbers as JSON writes them: no step through binary floating point.

/// Most digits that are carried; 2^127 has 39.
const DIGITS_MAX: usize = 38;

/// Why a decimal is not the whole number that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalFault {
    /// Digits are left behind the point.
    Fraction,
    Range,
}

/// A number of RFC 8259 without its exponent: `digits` * 10^`exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i64,
    /// Digits beyond `DIGITS_MAX` that were not zero.
    inexact: bool,
}

impl Decimal {
    /// `text` follows the grammar of RFC 8259, section 6.
    pub(super) fn parse(text: &str) -> Self {
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let negative = mantissa.starts_with('-');
        let mut decimal = Self { negative, digits: 0, exponent: 0, inexact: false };
        let mut carried = 0;
        let mut behind_point = false;
        for byte in mantissa.bytes() {
            match byte {
                b'.' => behind_point = true,
                b'0'..=b'9' if carried < DIGITS_MAX => {
                    decimal.digits = decimal.digits * 10 + u128::from(byte - b'0');
                    carried += usize::from(decimal.digits > 0);
                    decimal.exponent -= i64::from(behind_point);
                }
                b'0'..=b'9' => {
                    decimal.inexact |= byte != b'0';
                    decimal.exponent += i64::from(!behind_point);
                }
                _ => {}
            }
        }
        // An exponent that does not fit is as good as infinite, whichever its sign.
        let far = if power.starts_with('-') { -(i64::MAX / 4) } else { i64::MAX / 4 };
        let power = power.parse::<i64>().ok().filter(|power| power.abs() <= i64::MAX / 4);
        decimal.exponent += power.unwrap_or(far);
        decimal
    }

    /// The number times 10^`power`, if that is whole.
    pub(super) fn whole(self, power: u32) -> Result<i128, DecimalFault> {
        let (value, rest) = self.split(power)?;
        if rest { Err(DecimalFault::Fraction) } else { Ok(value) }
    }

    /// The number times 10^`power`, rounded towards minus infinity.
    pub(super) fn floor(self, power: u32) -> Result<i128, DecimalFault> {
        let (value, rest) = self.split(power)?;
        Ok(value - i128::from(rest && self.negative))
    }

    /// Magnitude cut to a whole number with its sign, and whether anything was cut off.
    fn split(self, power: u32) -> Result<(i128, bool), DecimalFault> {
        let signed = |digits: u128| {
            let value = i128::try_from(digits).map_err(|_| DecimalFault::Range)?;
            Ok(if self.negative { -value } else { value })
        };
        if self.digits == 0 {
            return Ok((0, self.inexact));
        }
        let exponent = self.exponent + i64::from(power);
        let scale = u32::try_from(exponent.unsigned_abs())
            .ok()
            .and_then(|steps| 10_u128.checked_pow(steps));
        match (scale, exponent >= 0) {
            (Some(scale), true) => {
                let digits = self.digits.checked_mul(scale).ok_or(DecimalFault::Range)?;
                Ok((signed(digits)?, self.inexact))
            }
            (None, true) => Err(DecimalFault::Range),
            (Some(scale), false) => {
                let rest = self.inexact || !self.digits.is_multiple_of(scale);
                Ok((signed(self.digits / scale)?, rest))
            }
            (None, false) => Ok((0, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, power: u32, whole: Result<i128, DecimalFault>, floor: Option<i128>) {
        let decimal = Decimal::parse(text);
        assert_eq!(decimal.whole(power), whole, "for {text}");
        assert_eq!(decimal.floor(power).ok(), floor, "for {text}");
    }

    #[test]
    fn decimals_are_exact() {
        check("0", 0, Ok(0), Some(0));
        check("-0.0e5", 0, Ok(0), Some(0));
        check("12", 0, Ok(12), Some(12));
        check("1.50", 0, Err(DecimalFault::Fraction), Some(1));
        check("-1.5", 0, Err(DecimalFault::Fraction), Some(-2));
        check("1.5e1", 0, Ok(15), Some(15));
        check("1500E-2", 0, Ok(15), Some(15));
        check("1456689422.364", 9, Ok(1_456_689_422_364_000_000), Some(1_456_689_422_364_000_000));
        check("0.0000000001", 9, Err(DecimalFault::Fraction), Some(0));
        check("-0.0000000001", 9, Err(DecimalFault::Fraction), Some(-1));
        check("1e400", 0, Err(DecimalFault::Range), None);
        check("1e-400", 0, Err(DecimalFault::Fraction), Some(0));
        check("1e99999999999999999999", 0, Err(DecimalFault::Range), None);
        check("1e-99999999999999999999", 0, Err(DecimalFault::Fraction), Some(0));
        check("0e99999999999999999999", 0, Ok(0), Some(0));
    }

    #[test]
    fn long_numbers_are_not_cut_unseen() {
        let zeros = "0".repeat(60);
        check(&format!("1{zeros}e-60"), 0, Ok(1), Some(1));
        check(&format!("1{zeros}1e-61"), 0, Err(DecimalFault::Fraction), Some(1));
        check(&format!("0.{zeros}1"), 0, Err(DecimalFault::Fraction), Some(0));
        check(&"9".repeat(38), 0, Ok(10_i128.pow(38) - 1), Some(10_i128.pow(38) - 1));
        check(&"9".repeat(39), 0, Err(DecimalFault::Range), None);
    }
}
