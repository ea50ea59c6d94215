//! Text to decimal numbers.
//!
//! Two readers: [`number`] for a whole field, and [`short_decimal`] for the common form of one at the start of a longer
//! text, eight bytes at once. Invariant: both give the bits that `str::parse` gives. Digits read as one integer below
//! 2^53 and a power of ten up to 10^15 are both exact in 64-bit floats, so their quotient is rounded once; a test says
//! so.

use crate::rejects::Reason;

const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A decimal number: `BadNumber` if it is none, `NotFinite` if it is infinite or NaN.
///
/// Up to 15 digits with a point among them are read by hand, the rest by the standard library.
pub(crate) fn number(text: &[u8]) -> Result<f64, Reason> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 16 {
        return any_number(text);
    }
    let mut mantissa = 0u64;
    let mut point = None;
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() && index > 0 => point = Some(index),
            _ => return any_number(text),
        }
    }
    let decimals = point.map_or(0, |point| digits.len() - 1 - point);
    if mantissa >= 1 << 53 || (point.is_some() && decimals == 0) {
        return any_number(text);
    }
    let value = mantissa as f64 / POWERS_OF_TEN[decimals];
    Ok(if negative { -value } else { value })
}

/// A number without a fraction, however it is written.
pub(crate) fn whole_number(text: &[u8]) -> Result<f64, Reason> {
    let value = number(text)?;
    if value.fract() == 0.0 { Ok(value) } else { Err(Reason::BadNumber) }
}

/// Everything else that Rust calls a float: exponents, a leading plus, many digits, infinities, NaN.
#[cold]
fn any_number(text: &[u8]) -> Result<f64, Reason> {
    let value: f64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Reason::BadNumber)?;
    if value.is_finite() { Ok(value) } else { Err(Reason::NotFinite) }
}

/// A decimal of at most seven bytes, as [`short_decimal`] reads it.
#[derive(Clone, Copy)]
pub(crate) struct ShortDecimal {
    negative: bool,
    mantissa: u32,
    decimals: u32,
}

impl ShortDecimal {
    pub(crate) fn value(self) -> f64 {
        let value = f64::from(self.mantissa) / POWERS_OF_TEN[self.decimals as usize];
        if self.negative { -value } else { value }
    }

    /// Its value, if it is written without a point.
    pub(crate) fn whole(self) -> Option<i32> {
        // Seven digits at most.
        let value = self.mantissa as i32;
        (self.decimals == 0).then_some(if self.negative { -value } else { value })
    }
}

/// Every byte of a word the same.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The top bit of the lowest byte that is `byte`; higher bits mean nothing. 0 if there is none.
///
/// Subtracting 1 from every byte borrows past a byte only if it was zero, so nothing below the first zero byte is
/// touched, and it alone of them has its top bit set without having had it before.
fn first_of(word: u64, byte: u8) -> u64 {
    let zeroed = word ^ each(byte);
    zeroed.wrapping_sub(each(1)) & !zeroed & each(0x80)
}

/// The decimal at the start of `text`, which a quote must end within eight bytes, and the text from that quote on.
/// `None` if it has any other form: then [`number`] knows better.
///
/// The text is one word, its first byte lowest. The point is taken out by shifting what follows it down a byte; the
/// digits are then shifted up so that the last one is the highest byte and zeros stand before the first; then pairs,
/// fours and eights of digits are summed, each step with one multiplication.
#[inline]
pub(crate) fn short_decimal(text: &[u8]) -> Option<(ShortDecimal, &[u8])> {
    let mut word = u64::from_le_bytes(*text.first_chunk()?);
    let quote = first_of(word, b'"');
    if quote == 0 {
        return None;
    }
    let length = quote.trailing_zeros() / 8;
    let negative = word as u8 == b'-';
    // A leading minus counts as a digit 0.
    word ^= u64::from(negative) * u64::from(b'-' ^ b'0');
    word &= bytes_below(length);
    let point = first_of(word, b'.');
    let (mut digits, mut decimals) = (length, 0);
    if point != 0 {
        let at = point.trailing_zeros() / 8;
        let before = word & bytes_below(at);
        word = before | (word >> 8 & !bytes_below(at));
        digits -= 1;
        decimals = digits - at;
        // A point needs a digit on either side.
        if decimals == 0 || at == u32::from(negative) {
            return None;
        }
    }
    if digits == u32::from(negative) {
        return None;
    }
    let values = (word ^ (each(b'0') & bytes_below(digits))) << (64 - 8 * digits);
    // A byte above 9 was no digit: adding 0x76 carries into its top bit, or that bit was set before.
    if (values | values.wrapping_add(each(0x76)) & each(0x80)) & each(0x80) != 0 {
        return None;
    }
    let pairs = values.wrapping_mul(1 + (10 << 8)) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_ffff_0000_ffff;
    let mantissa = (fours.wrapping_mul(1 + (10_000 << 32)) >> 32) as u32;
    Some((ShortDecimal { negative, mantissa, decimals }, &text[length as usize..]))
}

/// A mask of the lowest `count` bytes, `count` below 8.
fn bytes_below(count: u32) -> u64 {
    (1 << (8 * count)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> u64 {
        std::env::var("OVERLAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_200_810)
    }

    #[test]
    fn the_fast_decimal_equals_the_standard_one() {
        let mut random = fastrand::Rng::with_seed(seed());
        for case in 0..200_000 {
            let mut text = String::new();
            if random.bool() {
                text.push('-');
            }
            for _ in 0..random.usize(0..18) {
                text.push(if random.u8(0..12) == 0 { '.' } else { random.digit(10) });
            }
            let expected = text.parse::<f64>().map(f64::to_bits).map_err(|_| Reason::BadNumber);
            assert_eq!(number(text.as_bytes()).map(f64::to_bits), expected, "seed {}, case {case}: {text}", seed());
        }
    }

    /// What the short decimal reads, it reads as [`number`] and [`whole_number`] do, and stops at the first quote.
    fn check_short(text: &[u8], note: &str) -> bool {
        let note = format!("{note}: {:?}", String::from_utf8_lossy(text));
        let Some((decimal, rest)) = short_decimal(text) else { return false };
        let length = text.iter().position(|&byte| byte == b'"').expect(&note);
        assert_eq!(rest, &text[length..], "{note}");
        let field = &text[..length];
        assert_eq!(Ok(decimal.value().to_bits()), number(field).map(f64::to_bits), "{note}");
        if let Some(whole) = decimal.whole() {
            assert_eq!(Ok(f64::from(whole)), whole_number(field), "{note}");
        }
        true
    }

    #[test]
    fn the_short_decimal_equals_the_other_where_it_answers() {
        let mut random = fastrand::Rng::with_seed(seed());
        let alphabet = b"0123456789012345678901234567890123456789....---\"\"\"\"\"\" +e,/:\0\x01\x80\xb0\xff";
        let mut read = 0;
        for case in 0..400_000 {
            let text: Vec<u8> = (0..random.usize(0..14)).map(|_| *random.choice(alphabet).unwrap()).collect();
            read += usize::from(check_short(&text, &format!("seed {}, case {case}", seed())));
        }
        assert!(read > 10_000, "{read} were in the common form");
    }

    #[test]
    fn the_short_decimal_reads_the_common_forms_and_no_others() {
        for text in
            ["0", "62", "17.3", "-999", "-999.0", "-0.0", "-0", "5643.8", "1234567", "-123456", "00.10", "1.23456"]
        {
            for rest in ["\",\"UG/M3\"", "\",\"17.3\",\"", "\"\"\"\"\"\"\"\""] {
                assert!(check_short(format!("{text}{rest}").as_bytes(), "common"), "{text}{rest}");
            }
        }
        for text in
            ["", "-", ".", "-.", ".5", "-.5", "5.", "-5.", "1.2.3", "1-2", "--1", "+1", "1e3", "12345678", "1 ", " 1"]
        {
            assert!(short_decimal(format!("{text}\",\"17.3\",\"").as_bytes()).is_none(), "{text}");
        }
        // No quote, and a text too short to say.
        assert!(short_decimal(b"12345678").is_none() && short_decimal(b"12\"").is_none());
    }
}
