use std::fs;
use std::io::Write;

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};

use super::*;

fn rotating(path: &Path, bytes: usize) -> FileRotate<AppendCount> {
    let limit = ContentLimit::BytesSurpassed(bytes);
    FileRotate::new(path, AppendCount::new(LOGS_KEPT), limit, Compression::None, None)
}

fn line(number: usize) -> String {
    format!("line {number} {}", "x".repeat(number * 7 % 40))
}

/// A line at a time, as the log does.
fn write(log: &mut FileRotate<AppendCount>, number: usize) {
    log.write_all(format!("{}\n", line(number)).as_bytes()).unwrap();
}

fn all(reader: &mut LogReader) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match reader.next_lines().unwrap() {
            more if more.is_empty() => return lines,
            more => lines.extend(more),
        }
    }
}

#[test]
fn the_last_lines_are_found_across_files() {
    for written in [0, 1, 2, 10, 100] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("A.log");
        let mut log = rotating(&path, 300);
        for number in 0..written {
            write(&mut log, number);
        }
        let there: Vec<String> = (0..=LOGS_KEPT)
            .rev()
            .flat_map(|age| fs::read_to_string(aged(&path, age)))
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(written < 100 || there.len() < written, "the oldest are gone");
        for wanted in [0, 1, 2, 3, 7, 15, 1000] {
            let mut reader = LogReader::open(&path, wanted).unwrap();
            let expected = &there[there.len().saturating_sub(wanted as usize)..];
            assert_eq!(all(&mut reader), expected, "the last {wanted} of {written}");
        }
    }
    assert!(LogReader::open(Path::new("none/A.log"), 1).is_err());
}

#[test]
fn a_reader_follows_through_rotations() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("A.log");
        let mut log = rotating(&path, 400);
        write(&mut log, 0);
        let mut reader = LogReader::open(&path, 0).unwrap();
        let (mut written, mut read) = (1, Vec::new());
        while written < 200 {
            // A few rotations at the most between two looks, so that no file is lost before it was read.
            for _ in 0..random.usize(0..20) {
                write(&mut log, written);
                written += 1;
            }
            read.extend(reader.next_lines().unwrap());
        }
        read.extend(all(&mut reader));
        let expected: Vec<String> = (1..written).map(line).collect();
        assert_eq!(read, expected, "seed {seed}");
    }
}

#[test]
fn what_was_rotated_away_unread_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("A.log");
    let mut log = rotating(&path, 400);
    write(&mut log, 0);
    let mut reader = LogReader::open(&path, 1).unwrap();
    assert_eq!(all(&mut reader), [line(0)]);
    for number in 1..200 {
        write(&mut log, number);
    }
    let read = all(&mut reader);
    let gap = read.iter().position(|line| line.contains("lines are missing here")).expect("it is said");
    let of = |numbers: std::ops::Range<usize>| numbers.map(line).collect::<Vec<_>>();
    assert_eq!(read[..gap], of(1..gap + 1), "its own file to the end");
    assert_eq!(read[gap + 1..], of(200 - (read.len() - gap - 1)..200), "then the oldest that is left");
    assert!(gap > 5 && read.len() > gap + 20 && read.len() < 150, "{gap} {}", read.len());
}

#[test]
fn long_lines_are_cut_and_bytes_that_are_no_text_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("A.log");
    let long = vec![b'y'; 3 * LINE_BYTES_MAX];
    fs::write(&path, [&b"one\r\n"[..], &long, b"\n\xff\xfe two\nbegun"].concat()).unwrap();
    let mut reader = LogReader::open(&path, 10).unwrap();
    let read = all(&mut reader);
    assert_eq!((read[0].as_str(), read[2].as_str(), read.len()), ("one", "\u{fffd}\u{fffd} two", 3));
    assert_eq!(read[1].len(), LINE_BYTES_MAX + " …".len());
    assert_eq!(reader.rest().as_deref(), Some("begun"));
    fs::write(&path, "anew\n").unwrap();
    assert_eq!(all(&mut reader), ["anew"], "a file that was emptied in place is read from its start");
}

#[test]
fn a_large_log_is_searched_only_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("A.log");
    let text: String = (0..).map(|number| format!("{number:0>1000}\n")).take(6000).collect();
    fs::write(&path, text).unwrap();
    let read = all(&mut LogReader::open(&path, LINES_MAX).unwrap());
    assert!((4000..4200).contains(&read.len()), "{}", read.len());
    assert!(read.iter().all(|line| line.len() == 1000), "none begins in its middle");
}
