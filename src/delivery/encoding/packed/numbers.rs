//! Whole numbers in as few bytes as their spread needs: the least, a step, and for each how many steps above the least.
//!
//! Layout: least (i64), step (i64), width (u8: 0, 1, 2, 4 or 8), then `width` bytes a number, least significant first.
//! With width 0 all are the least. Readers compute modulo the size of the type that they want, so no bytes make them
//! fail; that numbers fit their type is the writer's business.

use std::ops::Range;

use super::read::Input;

/// A whole number of a column.
pub(super) trait Integer: Copy + Send + Sync + 'static {
    fn widened(self) -> i64;
    /// Modulo its size.
    fn narrowed(number: i64) -> Self;
    fn stepped(least: Self, step: Self, steps: Self) -> Self;
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Integer for $type {
            fn widened(self) -> i64 {
                self as i64
            }
            fn narrowed(number: i64) -> $type {
                number as $type
            }
            fn stepped(least: $type, step: $type, steps: $type) -> $type {
                least.wrapping_add(step.wrapping_mul(steps))
            }
        }
    )*};
}
integer!(i8, i16, i32, i64, u8, u16, u32, u64);

/// Seconds of an hour: the step of most times.
const HOUR: u64 = 3600;

/// Writes numbers; those that `is_skipped` picks are of no meaning and come back as the least.
pub(super) fn write<T: Integer>(values: &[T], is_skipped: Option<&dyn Fn(usize) -> bool>, out: &mut Vec<u8>) {
    let Some(is_skipped) = is_skipped else { return write_all(values, out) };
    let least = (0..values.len()).filter(|place| !is_skipped(*place)).map(|place| values[place].widened()).min();
    let least = T::narrowed(least.unwrap_or(0));
    let filled = values.iter().enumerate().map(|(place, value)| if is_skipped(place) { least } else { *value });
    write_all(&filled.collect::<Vec<T>>(), out);
}

fn write_all<T: Integer>(values: &[T], out: &mut Vec<u8>) {
    let (mut least, mut most) = (i64::MAX, i64::MIN);
    for value in values {
        least = least.min(value.widened());
        most = most.max(value.widened());
    }
    if values.is_empty() {
        (least, most) = (0, 0);
    }
    // The difference of any two 64-bit numbers fits into 64 bits without a sign.
    let above = |value: &T| value.widened().wrapping_sub(least) as u64;
    let spread = most.wrapping_sub(least) as u64;
    let by_hour = spread >= HOUR && values.iter().all(|value| above(value) % HOUR == 0);
    out.extend_from_slice(&least.to_le_bytes());
    match by_hour {
        true => {
            out.extend_from_slice(&(HOUR as i64).to_le_bytes());
            write_steps(values.iter().map(|value| above(value) / HOUR), spread / HOUR, out);
        }
        false => {
            out.extend_from_slice(&1_i64.to_le_bytes());
            write_steps(values.iter().map(above), spread, out);
        }
    }
}

/// Writes numbers of a table that is in ascending order, by their places in it; a place past its end has no number, and
/// comes back as the least. Least, greatest and step are those of the table, which is shorter than the places are many.
pub(super) fn write_placed(table: &[i64], places: impl ExactSizeIterator<Item = usize>, out: &mut Vec<u8>) {
    let (least, most) = (table.first().copied().unwrap_or(0), table.last().copied().unwrap_or(0));
    let spread = most.wrapping_sub(least) as u64;
    let mut steps: Vec<u64> = table.iter().map(|number| number.wrapping_sub(least) as u64).collect();
    let by_hour = spread >= HOUR && steps.iter().all(|above| above % HOUR == 0);
    let step = if by_hour { HOUR } else { 1 };
    if by_hour {
        steps.iter_mut().for_each(|above| *above /= HOUR);
    }
    out.extend_from_slice(&least.to_le_bytes());
    out.extend_from_slice(&(step as i64).to_le_bytes());
    write_steps(places.map(|place| steps.get(place).copied().unwrap_or(0)), spread / step, out);
}

fn write_steps(steps: impl ExactSizeIterator<Item = u64>, most: u64, out: &mut Vec<u8>) {
    match most {
        0 => out.push(0),
        1..=0xff => {
            out.push(1);
            out.extend(steps.map(|steps| steps as u8));
        }
        0x100..=0xffff => {
            out.push(2);
            write_wide(steps.map(|steps| (steps as u16).to_le_bytes()), out);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(4);
            write_wide(steps.map(|steps| (steps as u32).to_le_bytes()), out);
        }
        _ => {
            out.push(8);
            write_wide(steps.map(u64::to_le_bytes), out);
        }
    }
}

/// Byte by byte a vector grows slowly; into room that is there, numbers go many at a time.
fn write_wide<const N: usize>(numbers: impl ExactSizeIterator<Item = [u8; N]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + numbers.len() * N, 0);
    for (place, number) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(numbers) {
        *place = number;
    }
}

/// Numbers in a block, not read yet.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    least: i64,
    step: i64,
    width: u8,
    steps: &'a [u8],
    count: usize,
}

impl<'a> Numbers<'a> {
    /// The next `count` numbers of a block.
    pub fn take(input: &mut Input<'a>, count: usize) -> Result<Numbers<'a>, String> {
        let (least, step) = (i64::from_le_bytes(input.array()?), i64::from_le_bytes(input.array()?));
        let [width] = input.array()?;
        if ![0, 1, 2, 4, 8].contains(&width) {
            return Err(format!("numbers of {width} bytes"));
        }
        let steps = input.bytes(count.checked_mul(width.into()).ok_or("more numbers than memory")?)?;
        Ok(Numbers { least, step, width, steps, count })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Some of them.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&self, places: Range<usize>) -> Numbers<'a> {
        assert!(places.end <= self.count, "numbers {places:?} of {}", self.count);
        let width = usize::from(self.width);
        Numbers { steps: &self.steps[places.start * width..places.end * width], count: places.len(), ..*self }
    }

    /// The same, each by so much greater.
    pub fn raised(&self, by: i64) -> Numbers<'a> {
        Numbers { least: self.least.wrapping_add(by), ..*self }
    }

    /// Appends the numbers, through a function that the compiler can make one loop with reading them.
    pub fn append<T: Integer, U: Clone>(&self, made: impl Fn(T) -> U, out: &mut Vec<U>) {
        let (least, step) = (T::narrowed(self.least), T::narrowed(self.step));
        let number = |steps: i64| made(T::stepped(least, step, T::narrowed(steps)));
        match self.width {
            0 => out.extend(std::iter::repeat_n(made(least), self.count)),
            1 => out.extend(self.steps.iter().map(|steps| number(i64::from(*steps)))),
            2 => out.extend(parts(self.steps).map(|steps| number(i64::from(u16::from_le_bytes(steps))))),
            4 => out.extend(parts(self.steps).map(|steps| number(i64::from(u32::from_le_bytes(steps))))),
            _ => out.extend(parts(self.steps).map(|steps| number(i64::from_le_bytes(steps)))),
        }
    }

    /// The numbers.
    pub fn to_vec<T: Integer>(self) -> Vec<T> {
        let mut numbers = Vec::with_capacity(self.count);
        self.append(|number: T| number, &mut numbers);
        numbers
    }
}

fn parts<const N: usize>(bytes: &[u8]) -> impl ExactSizeIterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
