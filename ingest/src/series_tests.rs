//! The short way and the long way, held together on text that repeats itself, and on what mutations make of it.

use arrow::array::RecordBatch;
use fastrand::Rng;

use crate::csv::{Lines, split};
use crate::partition::read_lines;
use crate::rejects::Reason;
use crate::row::DayRows;
use crate::sorted::sorted_batch;

type Rejected = Vec<(u64, Vec<u8>, Reason)>;

fn rows() -> DayRows {
    DayRows::new("20200810".parse().unwrap(), 0)
}

fn by_both(files: &[Vec<u8>]) -> (RecordBatch, Rejected) {
    let (mut rows, mut rejected) = (rows(), Vec::new());
    for file in files {
        read_lines(file, &mut rows, |line, raw, reason| rejected.push((line, raw.to_vec(), reason)));
    }
    (sorted_batch(&rows), rejected)
}

fn the_long_way(files: &[Vec<u8>]) -> (RecordBatch, Rejected) {
    let (mut rows, mut rejected) = (rows(), Vec::new());
    for file in files {
        rows.begin_file();
        for (line, raw) in Lines::of(file) {
            if let Err(reason) = split(raw, &mut Vec::new()).and_then(|record| rows.push(&record)) {
                rejected.push((line, raw.to_vec(), reason));
            }
        }
    }
    (sorted_batch(&rows), rejected)
}

fn check(files: &[Vec<u8>], note: &str) {
    assert_eq!(
        by_both(files),
        the_long_way(files),
        "{note}: {:?}",
        files.iter().map(|file| String::from_utf8_lossy(file))
    );
}

/// Rows that go the short way, of all.
fn recognised(files: &[Vec<u8>]) -> (usize, usize) {
    let (mut rows, mut short, mut all) = (rows(), 0, 0);
    for file in files {
        rows.begin_file();
        let mut lines = Lines::of(file);
        while !lines.rest().is_empty() {
            all += 1;
            if let Some(bytes) = rows.push_expected(lines.rest()) {
                short += 1;
                lines.pass(bytes);
            } else if let Some((_, raw)) = lines.next() {
                let _ = split(raw, &mut Vec::new()).and_then(|record| rows.push(&record));
            }
        }
    }
    (short, all)
}

fn number(random: &mut Rng) -> String {
    match random.u8(0..8) {
        0 => "-999".into(),
        1 => "-999.0".into(),
        2 => format!("-{}.{}", random.u8(0..20), random.u8(0..10)),
        3 => format!("{}", random.u32(0..200_000)),
        _ => format!("{}.{}", random.u16(0..300), random.u8(0..10)),
    }
}

/// A few hours of a few sites, most of them in every hour.
fn files(random: &mut Rng) -> Vec<Vec<u8>> {
    let parameters = [("PM2.5", "UG/M3"), ("OZONE", "PPB"), ("PM2.5\"", "UG/M3"), ("CO", "")];
    let names = ["Fort Bragg", "A, B", "Ä-Straße", "N/A", "\"x\"", ""];
    let escaped = |text: &str| text.replace('"', "\"\"");
    let series: Vec<[String; 2]> = (0..random.usize(1..8))
        .map(|site| {
            let (parameter, unit) = *random.choice(&parameters[..2 + 2 * usize::from(site == 3)]).unwrap();
            let name = escaped(names[random.usize(0..names.len() - 2 * usize::from(site != 3))]);
            let site = random.usize(0..site + 1);
            let head = format!("\"{site}.5\",\"-{}\"", random.choice(["124.2", "0", "0.0"]).unwrap());
            let tail = format!("\"{name}\",\"Agency \",\"{site}\",\"840{site}\"");
            [format!("{head}|\"{}\"|\"{unit}\"", escaped(parameter)), tail]
        })
        .collect();
    (0..random.usize(1..6))
        .map(|hour| {
            let mut file = String::new();
            for [front, tail] in &series {
                if random.u8(0..8) == 0 {
                    continue;
                }
                let [head, parameter, unit]: [&str; 3] =
                    front.split('|').collect::<Vec<_>>().try_into().expect("three pieces");
                let minute = if random.u8(0..16) == 0 { 30 } else { 0 };
                let rare = random.u8(0..16) == 0;
                let aqi = random.choice(if rare { ["40000", "-40000", "3.0"] } else { ["12", "-999", "62"] }).unwrap();
                let category = random.choice(if rare { ["200", "1.5", "-128"] } else { ["1", "-999", "6"] }).unwrap();
                let (value, raw) = (number(random), number(random));
                file += &format!(
                    "{head},\"2020-08-10T0{hour}:{minute:02}\",{parameter},\"{value}\",{unit},\"{raw}\",\"{aqi}\",\
                     \"{category}\",{tail}\n"
                );
                if random.u8(0..16) == 0 {
                    let last = file.trim_end().rfind('\n').map_or(0, |end| end + 1);
                    file.extend_from_within(last..);
                }
            }
            file.into_bytes()
        })
        .collect()
}

fn seed() -> u64 {
    std::env::var("OVERLAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(4_121_957)
}

#[test]
fn the_short_way_takes_what_the_long_way_takes() {
    let mut sum = (0, 0);
    for case in 0..3000 {
        let random = &mut Rng::with_seed(seed() + case);
        let files = files(random);
        check(&files, &format!("seed {}, case {case}", seed()));
        let (short, all) = recognised(&files);
        sum = (sum.0 + short, sum.1 + all);
    }
    assert!(sum.0 * 6 > sum.1, "{} of {} rows went the short way", sum.0, sum.1);
}

#[test]
fn mutated_text_is_judged_alike_both_ways() {
    let pieces: [&[u8]; 22] = [
        b"\"",
        b"\"\"",
        b",",
        b"\",\"",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xff",
        "é".as_bytes(),
        b" ",
        b".",
        b"-",
        b"7",
        b"12345678",
        b"e",
        b"",
        b"",
        b"-999",
        b"\"\n",
        b"0",
        b"latitude",
    ];
    for case in 0..20_000 {
        let random = &mut Rng::with_seed(seed() + case);
        let mut files = files(random);
        for _ in 0..random.usize(1..4) {
            let file = random.choice(&mut files).unwrap();
            let at = random.usize(0..=file.len());
            let end = (at + random.usize(0..3)).min(file.len());
            file.splice(at..end, random.choice(&pieces).unwrap().iter().copied());
        }
        check(&files, &format!("seed {}, case {case}", seed()));
    }
}

#[test]
fn an_hourly_file_is_recognised_but_for_what_is_new() {
    let line = |hour: u8, site: u8| {
        format!(
            "\"4{site}.1\",\"-124.2\",\"2020-08-10T0{hour}:00\",\"PM2.5\",\"17.3\",\"UG/M3\",\"18.0\",\"62\",\"2\",\
             \"S\",\"A\",\"{site}\",\"840{site}\"\n"
        )
    };
    let file = |hour: u8, sites: &[u8]| sites.iter().map(|&site| line(hour, site)).collect::<String>().into_bytes();
    let check = |files: &[&[u8]], expected: usize| {
        let files: Vec<_> = files.iter().zip(1..).map(|(sites, hour)| file(hour, sites)).collect();
        assert_eq!(recognised(&files).0, expected, "{files:?}");
    };
    check(&[&[1, 2, 3]], 0);
    // The first row of a file shows the new hour.
    check(&[&[1, 2, 3], &[1, 2, 3]], 2);
    // A site is missing, is new, or stands elsewhere.
    check(&[&[1, 2, 3], &[1, 3]], 1);
    check(&[&[1, 2, 3], &[1, 9, 2, 3]], 2);
    check(&[&[1, 2, 3], &[3, 2, 1]], 2);
}

#[test]
fn a_text_with_a_quote_in_it_is_not_learnt() {
    let line = |hour: u8, site: u8, name: &str| {
        format!(
            "\"4{site}.7\",\"-124.2\",\"2020-08-10T0{hour}:00\",\"PM2.5\",\"17.3\",\"UG/M3\",\"18.0\",\"62\",\"2\",\
             \"{name}\",\"A\",\"{site}\",\"840{site}\"\n"
        )
    };
    let first = line(1, 1, "y") + &line(1, 2, "the \"\"x\"\"");
    // Now the name as it is, not as it must be written.
    let second = line(2, 1, "y") + &line(2, 2, "the \"x\"");
    let files = [first, second].map(String::into_bytes);
    check(&files, "quotes");
    assert_eq!(by_both(&files).1.len(), 1, "text after a closing quote");
}
