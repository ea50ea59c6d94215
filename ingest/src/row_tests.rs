//! Every reason that needs meaning, its priority over the next, and every accepted form.

use arrow::array::Array;

use super::*;
use crate::csv::split;

const GOOD: [&str; 13] =
    ["41.7", "-124.2", "2020-08-10T01:00", "PM2.5", "17.3", "UG/M3", "18.0", "62", "2", "Site", "Agency", "84", "85"];

fn fields(changes: &[(usize, &str)]) -> [String; 13] {
    let mut fields = GOOD.map(str::to_owned);
    for (index, text) in changes {
        fields[*index] = (*text).to_owned();
    }
    fields
}

fn push(rows: &mut DayRows, changes: &[(usize, &str)]) -> Result<(), Reason> {
    let fields = fields(changes);
    rows.push(&Record { fields: std::array::from_fn(|i| fields[i].as_bytes()), quoted: None })
}

fn check(changes: &[(usize, &str)], expected: Result<(), Reason>) {
    let mut rows = DayRows::new("20200810".parse().unwrap(), 0);
    assert_eq!(push(&mut rows, changes), expected, "{changes:?}");
    assert_eq!(rows.rows.len(), usize::from(expected.is_ok()));
}

#[test]
fn every_reason_comes_before_the_next() {
    // Columns: 0 latitude, 1 longitude, 2 utc, 4 concentration, 6 raw, 7 aqi, 8 category.
    check(&[(0, "LaTitude"), (2, "utc")], Err(Reason::Header));
    check(&[(0, "latitude ")], Err(Reason::BadNumber));
    check(&[(0, "x"), (2, "2020-08-10 01:00")], Err(Reason::BadTimestamp));
    check(&[(0, "x"), (2, "2020-08-11T01:00")], Err(Reason::WrongDay));
    check(&[(0, "inf"), (8, "")], Err(Reason::BadNumber));
    check(&[(0, "91"), (8, "nan")], Err(Reason::NotFinite));
    check(&[(0, "91")], Err(Reason::OutOfRange));
}

#[test]
fn timestamps_are_exact_and_real() {
    for text in ["2020-08-10T00:00", "2020-08-10T23:59"] {
        check(&[(2, text)], Ok(()));
    }
    let bad = "|2020-08-10|2020-08-10T01:00:00|2020-08-10t01:00|2020-08-10T24:00|2020-08-10T01:60|2020-13-10T01:00|\
               2021-02-29T01:00|2020-8-10T01:00|2020-08-10T1:00|+020-08-10T01:00| 2020-08-10T01:00|2020-08-10T01:00 |\
               2020/08/10T01:00";
    for text in bad.split('|') {
        check(&[(2, text)], Err(Reason::BadTimestamp));
    }
    check(&[(2, "2020-08-09T23:59")], Err(Reason::WrongDay));
}

#[test]
fn numbers_are_numbers_to_the_last_character() {
    for column in [0, 1, 4, 6, 7, 8] {
        for text in ["", " ", " 5", "5 ", "x", "-", ".", "1,5", "1_000", "0x10", "--5", "1e", "5-", "1.2.3", "NULL"] {
            check(&[(column, text)], Err(Reason::BadNumber));
        }
        for text in ["nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-1e999"] {
            check(&[(column, text)], Err(Reason::NotFinite));
        }
        for text in ["5", "5.0", "+5", "-5", "05", "5e0", "5.", "-0"] {
            check(&[(column, text)], Ok(()));
        }
    }
    for column in [7, 8] {
        check(&[(column, "12.5")], Err(Reason::BadNumber));
        check(&[(column, "1e300")], Err(Reason::OutOfRange));
    }
}

#[test]
fn bounds_are_included() {
    for (column, inside, outside) in [
        (0, ["90", "-90.0"], ["90.0001", "-999"]),
        (1, ["180", "-180"], ["180.5", "-999.0"]),
        (7, ["32767", "-32768"], ["32768", "-32769"]),
        (8, ["127", "-128"], ["128", "-129"]),
    ] {
        for text in inside {
            check(&[(column, text)], Ok(()));
        }
        for text in outside {
            check(&[(column, text)], Err(Reason::OutOfRange));
        }
    }
}

#[test]
fn missing_is_null_in_the_measured_columns_only() {
    let mut rows = DayRows::new("20200810".parse().unwrap(), 0);
    push(&mut rows, &[(4, "-999"), (6, "-999.0"), (7, "-999"), (8, "-999.0"), (9, "-999"), (12, "a")]).unwrap();
    push(&mut rows, &[(4, "-998.9"), (6, "-68.0"), (7, "-99"), (8, "-9"), (12, "b")]).unwrap();
    let measured = |row: &Row| (row.concentration, row.raw_concentration, row.aqi, row.category);
    assert_eq!(measured(&rows.rows[0]), (-999.0, -999.0, MISSING, MISSING));
    assert_eq!(measured(&rows.rows[1]), (-998.9, -68.0, -99, -9));
    assert_eq!(rows.table.texts.site_name.ranked().0.value(0), "-999");
}

#[test]
fn a_duplicate_is_one_of_an_accepted_row_of_the_same_file() {
    let mut rows = DayRows::new("20200810".parse().unwrap(), 0);
    // A rejected row is nobody's original, and leaves no text behind.
    assert_eq!(push(&mut rows, &[(4, "x"), (12, "ghost")]), Err(Reason::BadNumber));
    assert_eq!(push(&mut rows, &[]), Ok(()));
    assert_eq!(push(&mut rows, &[(4, "9.9"), (9, "Other"), (10, "Other")]), Err(Reason::Duplicate));
    assert_eq!(push(&mut rows, &[(7, "40000")]), Err(Reason::OutOfRange));
    for change in [(2, "2020-08-10T01:01"), (3, "PM10"), (12, "86")] {
        assert_eq!(push(&mut rows, &[change]), Ok(()));
    }
    rows.begin_file();
    assert_eq!(push(&mut rows, &[]), Ok(()));
    assert_eq!(rows.rows.len(), 5);
    assert_eq!(rows.table.texts.full_aqs_id.ranked().0.len(), 2);
    assert_eq!(rows.table.texts.site_name.ranked().0.len(), 1);
}

#[test]
fn structural_reasons_come_before_all_of_these() {
    let check = |line: &[u8], expected| assert_eq!(split(line, &mut Vec::new()).err(), Some(expected));
    let long = "x".repeat((1 << 20) + 1);
    check(format!("\"open,{long},\0").as_bytes(), Reason::UnterminatedQuote);
    check(format!("\"closed\"x,{long}").as_bytes(), Reason::UnterminatedQuote);
    check(format!("{long},\0").as_bytes(), Reason::FieldTooLong);
    check(b"latitude,\0,\xff", Reason::NulByte);
    check(b"latitude,\xff", Reason::InvalidUtf8);
    check(b"latitude,longitude", Reason::MissingFields);
    check(b"latitude,2,3,4,5,6,7,8,9,10,11,12,13,14", Reason::ExtraFields);
    check(b"latitude,2,3,4,5,6,7,8,9,10,11,12,13,", Reason::ExtraFields);
}
