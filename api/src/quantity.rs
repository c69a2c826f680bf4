//! Resource quantities: `100m`, `1.5Gi`, `12e6`.
//!
//! Mirrors the behaviour of Go's `resource.Quantity`, quirks included, because clients compare the
//! canonical text byte for byte: a text that is already canonical (or that upstream's fast path
//! believes to be, as `1.500`) is kept, everything else is rewritten.
//!
//! An amount is an integer number of nano units in an `i128`. Upstream holds arbitrarily large
//! decimals; here a decimal above about 1.7e29 is refused as [`ParseError::Numeric`] rather than
//! silently changed. Binary amounts are capped at 2^63-1, as upstream does.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde_json::Value;

#[cfg(test)]
mod tests;

const NANOS: i128 = 1_000_000_000;
/// Decimal digits that upstream's 64-bit fast path can hold.
const FAST_DIGITS: i64 = 18;
/// Fractional digits read exactly; any further non-zero digit only rounds the last one up.
const MAX_FRACTION: usize = 18;

/// Which family of suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Why a text is no quantity. The texts are the ones clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An exact amount with the format it was written in. Equality and order look at the amount only.
#[derive(Clone, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    text: Option<Box<str>>,
}

impl Quantity {
    /// `amount` whole units.
    pub fn new(amount: i64, format: Format) -> Self {
        Self::from_nanos(i128::from(amount) * NANOS, format)
    }

    /// `amount` thousandths of a unit.
    pub fn new_milli(amount: i64, format: Format) -> Self {
        Self::from_nanos(i128::from(amount) * (NANOS / 1000), format)
    }

    pub fn zero() -> Self {
        Self::from_nanos(0, Format::DecimalSi)
    }

    fn from_nanos(nanos: i128, format: Format) -> Self {
        Self { nanos, format, text: None }
    }

    /// Parses a text without surrounding white space.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        parse(text, &scan(text)?)
    }

    /// Reads a JSON value as Go's decoder does: a string or a number, trimmed; null is zero.
    pub fn from_value(value: &Value) -> Result<Self, ParseError> {
        match value {
            Value::Null => Ok(Self::zero()),
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => Err(ParseError::Format),
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// Thousandths of a unit, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// Whole units if the amount is a whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        (self.nanos % NANOS == 0).then(|| i64::try_from(self.nanos / NANOS).ok()).flatten()
    }

    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Adds `other`; a zero amount takes over the other's format.
    pub fn add(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.set(self.nanos.saturating_add(other.nanos));
    }

    /// Subtracts `other`; a zero amount takes over the other's format.
    pub fn sub(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.set(self.nanos.saturating_sub(other.nanos));
    }

    pub fn mul(&mut self, factor: i64) {
        self.set(self.nanos.saturating_mul(i128::from(factor)));
    }

    /// Rounds away from zero to thousandths; the text survives when nothing is lost.
    pub fn round_up_milli(&mut self) {
        let unit = NANOS / 1000;
        if self.nanos % unit != 0 {
            self.set(div_away_from_zero(self.nanos, unit) * unit);
        }
    }

    pub fn neg(&mut self) {
        self.set(-self.nanos);
    }

    fn set(&mut self, nanos: i128) {
        self.nanos = nanos;
        self.text = None;
    }

    fn scaled(&self, unit: i128) -> i64 {
        let rounded = div_away_from_zero(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANOS && self.nanos % NANOS == 0;
        if binary {
            return write_binary(f, self.nanos / NANOS);
        }
        write_decimal(f, self.nanos, self.format == Format::DecimalExponent)
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Rewrites every text to the form upstream stores; `None` when it is no quantity.
pub fn canonical(value: &Value) -> Option<String> {
    Quantity::from_value(value).ok().map(|q| q.to_string())
}

fn write_binary(f: &mut fmt::Formatter<'_>, units: i128) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut amount, mut power) = (units, 0);
    while amount % 1024 == 0 && power + 1 < SUFFIXES.len() {
        amount /= 1024;
        power += 1;
    }
    write!(f, "{amount}{}", SUFFIXES[power])
}

fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: i128, exponent_form: bool) -> fmt::Result {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let (mut amount, mut power) = (nanos, 0);
    while amount % 1000 == 0 && (exponent_form || power + 1 < SUFFIXES.len()) {
        amount /= 1000;
        power += 1;
    }
    if !exponent_form {
        return write!(f, "{amount}{}", SUFFIXES[power]);
    }
    match power as i32 * 3 - 9 {
        0 => write!(f, "{amount}"),
        exponent => write!(f, "{amount}e{exponent}"),
    }
}

fn div_away_from_zero(amount: i128, unit: i128) -> i128 {
    let quotient = amount / unit;
    if amount % unit == 0 {
        return quotient;
    }
    quotient + amount.signum()
}

/// The parts of a quantity's text. `num` has no leading zeros (but is at least `0`).
struct Parts<'a> {
    negative: bool,
    num: &'a str,
    denom: &'a str,
    suffix: &'a str,
    /// Whether any digit stands before the suffix (upstream accepts `Gi` as zero on its fast path).
    has_number: bool,
}

fn scan(text: &str) -> Result<Parts<'_>, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let significant = unsigned.trim_start_matches('0');
    let (num, rest) = split_while(significant, |c| c.is_ascii_digit());
    let (denom, rest) = match rest.strip_prefix('.') {
        Some(fraction) => split_while(fraction, |c| c.is_ascii_digit()),
        None => ("", rest),
    };
    let (_, tail) = split_while(rest, |c| "eEinumkKMGTP".contains(c));
    let digits = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    Ok(Parts {
        negative: text.starts_with('-'),
        num: if num.is_empty() { "0" } else { num },
        denom,
        suffix: rest,
        has_number: rest.len() < unsigned.len(),
    })
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !keep(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn interpret(suffix: &str) -> Result<(Format, i32), ParseError> {
    let known = match suffix {
        "n" => (Format::DecimalSi, -9),
        "u" => (Format::DecimalSi, -6),
        "m" => (Format::DecimalSi, -3),
        "" => (Format::DecimalSi, 0),
        "k" => (Format::DecimalSi, 3),
        "M" => (Format::DecimalSi, 6),
        "G" => (Format::DecimalSi, 9),
        "T" => (Format::DecimalSi, 12),
        "P" => (Format::DecimalSi, 15),
        "E" => (Format::DecimalSi, 18),
        "Ki" => (Format::BinarySi, 10),
        "Mi" => (Format::BinarySi, 20),
        "Gi" => (Format::BinarySi, 30),
        "Ti" => (Format::BinarySi, 40),
        "Pi" => (Format::BinarySi, 50),
        "Ei" => (Format::BinarySi, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
            let exponent = exponent.parse().map_err(|_| ParseError::Suffix)?;
            (Format::DecimalExponent, exponent)
        }
    };
    Ok(known)
}

fn parse(text: &str, parts: &Parts<'_>) -> Result<Quantity, ParseError> {
    let (mut format, exponent) = interpret(parts.suffix)?;
    let fast = is_fast(parts, format, exponent);
    if !fast && !parts.has_number {
        return Err(ParseError::Numeric);
    }
    let magnitude = match format {
        Format::BinarySi => binary_nanos(parts, exponent as u32)?,
        _ => decimal_nanos(parts, exponent)?,
    };
    if !fast && format == Format::BinarySi && magnitude > 0 && magnitude < NANOS {
        format = Format::DecimalSi;
    }
    Ok(Quantity {
        nanos: if parts.negative { -magnitude } else { magnitude },
        format,
        text: (fast && keeps_text(parts, format, exponent)).then(|| text.into()),
    })
}

/// Whether upstream computes this text in 64 bits, which decides if the text itself may be kept.
fn is_fast(parts: &Parts<'_>, format: Format, exponent: i32) -> bool {
    let (num, denom) = (parts.num.len() as i64, parts.denom.len() as i64);
    if format == Format::BinarySi {
        return denom == 0 && 15 - num - i64::from(exponent) * 3 / 10 > 0;
    }
    num + denom <= FAST_DIGITS && i64::from(exponent) - denom >= -9
}

/// Whether upstream's fast path takes the text for canonical.
fn keeps_text(parts: &Parts<'_>, format: Format, exponent: i32) -> bool {
    if format == Format::BinarySi {
        let amount: i64 = parts.num.parse().unwrap_or(0);
        return amount & 7 != 0;
    }
    let scale = exponent - parts.denom.len() as i32;
    let digits = format!("{}{}", parts.num, parts.denom);
    scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0')
}

fn binary_nanos(parts: &Parts<'_>, exponent: u32) -> Result<i128, ParseError> {
    let cap = i128::from(i64::MAX) * NANOS;
    let Some((digits, scale)) = digits(parts) else {
        return Ok(cap);
    };
    let scaled = digits.checked_mul(1 << exponent).and_then(|amount| amount.checked_mul(NANOS));
    let Some(scaled) = scaled else {
        // Only reached far above the cap unless a long fraction stands behind the point.
        let coarse = digits / 10_i128.pow(scale) * (1 << exponent);
        return Ok(coarse.saturating_mul(NANOS).min(cap));
    };
    Ok(div_away_from_zero(scaled, 10_i128.pow(scale)).min(cap))
}

fn decimal_nanos(parts: &Parts<'_>, exponent: i32) -> Result<i128, ParseError> {
    let (digits, scale) = digits(parts).ok_or(ParseError::Numeric)?;
    if digits == 0 {
        return Ok(0);
    }
    let power = i64::from(exponent) + 9 - i64::from(scale);
    let factor = 10_i128.checked_pow(u32::try_from(power.unsigned_abs()).unwrap_or(u32::MAX));
    match (power >= 0, factor) {
        (true, Some(factor)) => digits.checked_mul(factor).ok_or(ParseError::Numeric),
        (true, None) => Err(ParseError::Numeric),
        (false, Some(factor)) => Ok(div_away_from_zero(digits, factor)),
        (false, None) => Ok(1),
    }
}

/// All digits as one integer with the number of fractional ones; `None` when they do not fit.
fn digits(parts: &Parts<'_>) -> Option<(i128, u32)> {
    let (exact, sticky) = parts.denom.split_at(parts.denom.len().min(MAX_FRACTION));
    let mut amount: i128 = format!("{}{exact}", parts.num).parse().ok()?;
    if sticky.contains(|c| c != '0') {
        amount = amount.checked_add(1)?;
    }
    Some((amount, exact.len() as u32))
}
