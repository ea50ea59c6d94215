use arrow::array::{
    Array, AsArray, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int8Array, Int16Array, Int64Array,
    PrimitiveArray, StringArray, StringViewArray, TimestampSecondArray, UInt8Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, Field, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use fastrand::Rng;

use super::*;

fn block(rows: &RowsByRun) -> Packed {
    Packed::open(rows.pack().expect("packs").into(), &rows.schema).expect("a block")
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(place, column)| (format!("c{place}"), column, true));
    RecordBatch::try_from_iter_with_nullable(named).expect("columns of one length")
}

/// There and back, whole and some of it; gives the bytes a value, to a hundredth.
fn check(column: impl Array + 'static) -> f64 {
    let batch = batch(vec![Arc::new(column)]);
    let rows = batch.num_rows();
    for slice in [batch.clone(), batch.slice(rows / 3, rows / 2), batch.slice(rows, 0)] {
        let back = block(&RowsByRun::of_batch(&slice)).to_batch().expect("readable");
        assert_eq!(back, slice);
    }
    let bytes = RowsByRun::of_batch(&batch).pack().expect("packs").len();
    let empty = RowsByRun::of_batch(&batch.slice(rows, 0)).pack().expect("packs").len();
    ((bytes as f64 - empty as f64) / rows as f64 * 100.0).round() / 100.0
}

fn floats(values: impl IntoIterator<Item = f64>) -> Float64Array {
    values.into_iter().collect::<Vec<_>>().into()
}

#[test]
fn numbers_take_what_their_spread_needs() {
    let n = 4_000_i64;
    let least = 1_597_741_200;
    assert_eq!(check(Int64Array::from(vec![least; n as usize])), 0.0);
    assert_eq!(check(Int64Array::from_iter_values((0..n).map(|i| least + i % 256))), 1.0);
    assert_eq!(check(Int64Array::from_iter_values((0..n).map(|i| least + i % 257))), 2.0);
    assert_eq!(check(Int64Array::from_iter_values((0..n).map(|i| least + i * 20))), 4.0);
    assert_eq!(check(Int64Array::from_iter_values((0..n).map(|i| i << 40))), 8.0);
    assert_eq!(
        check(TimestampSecondArray::from_iter_values((0..n).map(|i| least + i % 24 * 3600)).with_timezone("UTC")),
        1.0
    );
    assert_eq!(check(Int16Array::from_iter_values((0..n).map(|i| i as i16))), 2.0);
    assert_eq!(check(floats((0..n).map(|i| (i % 200) as f64 / 10.0))), 1.0);
    assert_eq!(check(floats((0..n).map(|i| (i % 2_000 - 50) as f64 / 10.0))), 2.0);
    assert_eq!(check(floats((0..n).map(|i| (41_500_000 + i) as f64 / 1e6))), 2.0);
    assert_eq!(check(floats((0..n).map(|i| i as f64 / 3.0))), 8.0);
    assert_eq!(check(Int16Array::from_iter((0..n).map(|i| (i % 3 > 0).then_some(i as i16 % 100)))), 1.13);
}

#[test]
fn every_float_comes_back_to_the_last_bit() {
    let bits =
        |array: &ArrayRef| array.as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let hard = [
        0.0,
        -0.0,
        0.1,
        -0.1,
        0.3,
        1e300,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        214_748_364.7,
        214_748_364.8,
        -214_748_364.8,
        -214_748_364.9,
        429_496_729.6,
        2147.483647,
        2147.483648,
        1e15,
        0.05,
    ];
    for seed in 0..200 {
        let mut random = Rng::with_seed(seed);
        let mut values: Vec<f64> = (0..1_200).map(|_| f64::from(random.i32(-20_000..20_000)) / 10.0).collect();
        for _ in 0..random.usize(0..3) {
            let place = random.usize(..values.len());
            values[place] = match random.u8(0..3) {
                0 => f64::from_bits(random.u64(..)),
                1 => f64::from_bits(values[place].to_bits() ^ 1),
                _ => hard[random.usize(..hard.len())],
            };
        }
        let batch = batch(vec![Arc::new(floats(values))]);
        let back = block(&RowsByRun::of_batch(&batch)).to_batch().expect("readable");
        assert_eq!(bits(back.column(0)), bits(batch.column(0)), "seed {seed}");
    }
    for value in hard {
        let batch = batch(vec![Arc::new(floats([value, 0.1]))]);
        let back = block(&RowsByRun::of_batch(&batch)).to_batch().expect("readable");
        assert_eq!(bits(back.column(0)), bits(batch.column(0)), "{value}");
    }
}

#[test]
fn integers_at_their_ends() {
    check(Int64Array::from(vec![i64::MIN, i64::MAX, 0, -1]));
    check(Int64Array::from(vec![i64::MIN, i64::MIN + 3600]));
    check(Int64Array::from(vec![i64::MIN, i64::MAX - 1208]));
    check(Int8Array::from(vec![i8::MIN, i8::MAX]));
    check(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]));
    check(Int64Array::from(vec![None, None]));
    check(Int64Array::new_null(0));
}

#[test]
fn what_lies_under_a_null_does_not_matter() {
    let nulls = NullBuffer::from(vec![true, false, true]);
    let wide = Int64Array::new(vec![1, i64::MAX, 3].into(), Some(nulls.clone()));
    let batch = batch(vec![Arc::new(wide), Arc::new(Float64Array::new(vec![0.5, f64::NAN, 0.1].into(), Some(nulls)))]);
    assert_eq!(block(&RowsByRun::of_batch(&batch)).to_batch().expect("readable"), batch);
}

fn dictionary<K: ArrowDictionaryKeyType>(texts: &[&str], keys: &[Option<usize>]) -> DictionaryArray<K> {
    let keys: PrimitiveArray<K> = keys.iter().map(|key| key.map(K::Native::usize_as)).collect();
    DictionaryArray::try_new(keys, Arc::new(StringArray::from(texts.to_vec()))).expect("valid keys")
}

#[test]
fn texts_come_back_and_only_those_that_are_used() {
    let texts = ["unused", "Crescent City", "", "é", "Crescent City"];
    let keys = [Some(1), Some(3), None, Some(2), Some(4), Some(1)];
    fn one<K: ArrowDictionaryKeyType>(texts: &[&str], keys: &[Option<usize>]) {
        let batch = batch(vec![Arc::new(dictionary::<K>(texts, keys))]);
        let back = block(&RowsByRun::of_batch(&batch)).to_batch().expect("readable");
        assert_eq!(back, batch);
        assert_eq!(back.column(0).as_dictionary::<K>().values().len(), 4);
    }
    one::<Int8Type>(&texts, &keys);
    one::<Int16Type>(&texts, &keys);
    one::<Int32Type>(&texts, &keys);
    one::<Int64Type>(&texts, &keys);
    one::<UInt8Type>(&texts, &keys);
    one::<UInt16Type>(&texts, &keys);
    one::<UInt32Type>(&texts, &keys);
    one::<UInt64Type>(&texts, &keys);
    check(dictionary::<Int32Type>(&[], &[None, None]));
    let (first, last) = ("a", "b");
    let nulls = StringArray::from(vec![Some(first), None, Some(last)]);
    check(DictionaryArray::<Int32Type>::try_new(vec![0, 1, 2, 1].into(), Arc::new(nulls)).expect("valid keys"));
}

#[test]
fn types_without_a_form_of_their_own_come_back_too() {
    check(StringViewArray::from(vec![Some("a"), None, Some("a text that does not fit into a view of its own")]));
    check(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]));
    check(Date32Array::from(vec![Some(18_492), None]));
    check(UInt8Array::from(vec![1, 255]));
}

#[test]
fn columns_by_run_come_back_row_by_row() {
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let runs: Vec<u32> = (0..random.usize(0..20)).map(|_| random.u32(1..30)).collect();
        let rows = runs.iter().sum::<u32>() as usize;
        let nullable = |random: &mut Rng, n: usize| {
            (0..n).map(|_| (random.u8(0..4) > 0).then(|| random.usize(0..4))).collect::<Vec<_>>()
        };
        let of_runs: Vec<ArrayRef> = vec![
            Arc::new(floats((0..runs.len()).map(|run| 40.0 + run as f64 / 7.0))),
            Arc::new(dictionary::<Int32Type>(&["PM2.5", "PM10", "OZONE", "NO2"], &nullable(&mut random, runs.len()))),
            Arc::new(
                nullable(&mut random, runs.len()).into_iter().map(|n| n.map(|n| n as i16)).collect::<Int16Array>(),
            ),
            Arc::new(nullable(&mut random, runs.len()).into_iter().map(|n| n.map(|n| n > 1)).collect::<BooleanArray>()),
        ];
        let by_row: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|_| random.i64(0..1_000))));
        let places: Vec<u32> =
            runs.iter().enumerate().flat_map(|(run, rows)| std::iter::repeat_n(run as u32, *rows as usize)).collect();
        let places = PrimitiveArray::<UInt32Type>::from(places);
        let mut expected = vec![Arc::clone(&by_row)];
        expected.extend(of_runs.iter().map(|column| take(column, &places, None).expect("places of runs")));
        let expected = batch(expected);
        let columns = std::iter::once(Column::ByRow(by_row)).chain(of_runs.into_iter().map(Column::ByRun)).collect();
        let packed = block(&RowsByRun { schema: expected.schema(), rows, runs, columns });
        assert_eq!((packed.rows(), packed.to_batch().expect("readable")), (rows, expected), "seed {seed}");
    }
}

/// The same numbers by their places in a table and one by one: the same rows, and where some row has the ends of the
/// table the same bytes.
#[test]
fn numbers_of_a_table_come_back_as_if_looked_up() {
    let decimals: ArrayRef = Arc::new(floats((0..300).map(|tenth| f64::from(tenth - 20) / 10.0)));
    let tables: Vec<ArrayRef> = vec![
        Arc::clone(&decimals),
        Arc::new(floats((0..200).map(|place| f64::from(place) / 1e6 + 40.0))),
        // What has no decimal form is looked up.
        Arc::new(floats([-0.5, -0.0, 0.1, 1.0 / 3.0, 7.0, f64::INFINITY, f64::NAN])),
        Arc::new(
            TimestampSecondArray::from_iter_values((0..24).map(|hour| 1_597_017_600 + 3600 * hour))
                .with_timezone("UTC"),
        ),
        Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX])),
        Arc::new(Int16Array::from_iter_values((-3..250).map(|aqi| aqi * 2))),
        decimals.slice(7, 1),
        decimals.slice(0, 0),
    ];
    for (at, table) in tables.iter().enumerate() {
        for seed in 0..40 {
            let mut random = Rng::with_seed(seed);
            let nulls = usize::from(table.is_empty() || random.bool());
            let from = random.usize(0..=table.len() / 2);
            let places: Vec<u16> =
                (0..random.usize(0..90)).map(|_| random.usize(from..table.len().max(from) + nulls) as u16).collect();
            let placed = Placed { table: Arc::clone(table), places };
            let looked_up = batch(vec![placed.look_up().expect("places of the table")]);
            let (schema, rows) = (looked_up.schema(), looked_up.num_rows());
            let placed = RowsByRun { schema, rows, runs: Vec::new(), columns: vec![Column::ByPlace(placed)] };
            let bytes = placed.pack().expect("packs");
            assert_eq!(block(&placed).to_batch().expect("readable"), looked_up, "table {at} seed {seed}");
            let as_rows = RowsByRun::of_batch(&looked_up).pack().expect("packs");
            assert!(bytes.len() <= as_rows.len(), "table {at} seed {seed}: {} and {}", bytes.len(), as_rows.len());
        }
    }
}

/// Any parts of any blocks as one batch, whatever forms their columns have.
#[test]
fn parts_of_several_blocks_are_one_batch() {
    for seed in 0..200 {
        let mut random = Rng::with_seed(seed);
        let names = |seed: usize| ["a", "é", "", "ccc", "dd"].map(|name| format!("{name}{}", seed % 3));
        let made = |random: &mut Rng, seed: usize| {
            let runs: Vec<u32> = (0..random.usize(1..8)).map(|_| random.u32(1..9)).collect();
            let rows = runs.iter().sum::<u32>() as usize;
            let keys = |random: &mut Rng, count: usize| {
                (0..count).map(|_| (random.u8(0..5) > 0).then(|| random.usize(0..5))).collect::<Vec<_>>()
            };
            let texts = names(seed);
            let texts = texts.each_ref().map(String::as_str);
            let scale = [10.0, 1e6, 3.0][random.usize(..3)];
            let columns: Vec<Column> = vec![
                Column::ByRow(Arc::new(Int16Array::from_iter(
                    (0..rows).map(|row| (row % 4 > 0).then_some(row as i16)),
                ))),
                Column::ByRow(Arc::new(floats((0..rows).map(|row| row as f64 / scale)))),
                Column::ByRun(Arc::new(floats((0..runs.len()).map(|run| run as f64 / scale)))),
                Column::ByRow(Arc::new(dictionary::<Int32Type>(&texts, &keys(random, rows)))),
                Column::ByRun(Arc::new(dictionary::<Int32Type>(&texts, &keys(random, runs.len())))),
                // Together they may have more texts than keys of 8 bits tell apart.
                Column::ByRun(Arc::new(dictionary::<Int8Type>(&texts, &keys(random, runs.len())))),
                Column::ByRun(Arc::new(BooleanArray::from_iter(
                    keys(random, runs.len()).iter().map(|n| n.map(|n| n > 2)),
                ))),
                Column::ByRow(Arc::new(BooleanArray::from_iter(keys(random, rows).iter().map(|n| n.map(|n| n > 2))))),
                Column::ByRun(Arc::new(Int8Array::from_iter(
                    keys(random, runs.len()).iter().map(|n| n.map(|n| n as i8)),
                ))),
            ];
            let field = |(place, column): (usize, &Column)| {
                let (Column::ByRow(values) | Column::ByRun(values)) = column else { unreachable!("made above") };
                Field::new(format!("c{place}"), values.data_type().clone(), true)
            };
            let schema = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
            block(&RowsByRun { schema, rows, runs, columns })
        };
        let blocks: Vec<Packed> = (0..random.usize(1..40)).map(|seed| made(&mut random, seed)).collect();
        let schema = Arc::clone(blocks[0].schema());
        let found: Vec<read::Block<'_>> =
            blocks.iter().map(|block| read::Block::find(block.bytes(), &schema).expect("a block")).collect();
        let (mut parts, mut expected) = (Vec::new(), Vec::new());
        for (found, block) in found.iter().zip(&blocks) {
            let start = if random.bool() { 0 } else { random.usize(0..=block.rows()) };
            let end = if random.bool() { block.rows() } else { random.usize(start..=block.rows()) };
            parts.push(found.part(start..end));
            expected.push(block.to_batch().expect("readable").slice(start, end - start));
        }
        let joined = join::batch(&parts, &schema).expect("one batch");
        let spelled_column = |column: &ArrayRef| match column.as_any_dictionary_opt() {
            Some(_) => arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).expect("texts"),
            None => Arc::clone(column),
        };
        let spelled = |rows: &RecordBatch| batch(rows.columns().iter().map(spelled_column).collect());
        let expected: Vec<RecordBatch> = expected.iter().map(spelled).collect();
        let expected = arrow::compute::concat_batches(&expected[0].schema(), &expected).expect("one schema");
        assert_eq!(spelled(&joined), expected, "seed {seed}");
    }
}

#[test]
fn rows_without_columns_keep_their_number() {
    let schema = Arc::new(Schema::empty());
    let rows = RowsByRun { schema: Arc::clone(&schema), rows: 7, runs: Vec::new(), columns: Vec::new() };
    assert_eq!(block(&rows).to_batch().expect("readable").num_rows(), 7);
}

/// A block is proven or refused; a proven one can be read.
fn open_and_read(bytes: Vec<u8>, schema: &SchemaRef) -> bool {
    match Packed::open(bytes.into(), schema) {
        Ok(packed) => {
            assert_eq!(packed.to_batch().expect("it was proven").num_rows(), packed.rows());
            true
        }
        Err(_) => false,
    }
}

#[test]
fn what_was_proven_can_be_read_whatever_was_changed() {
    let keys: Vec<Option<usize>> = (0..60).map(|row| (row % 7 > 0).then_some(row % 3)).collect();
    let rows = RowsByRun {
        schema: Arc::new(Schema::new(vec![
            Field::new("utc", arrow::datatypes::DataType::Int64, false),
            Field::new("x", arrow::datatypes::DataType::Float64, true),
            Field::new("site", dictionary::<Int8Type>(&[], &[]).data_type().clone(), true),
            Field::new("name", dictionary::<Int8Type>(&[], &[]).data_type().clone(), true),
            Field::new("note", arrow::datatypes::DataType::Boolean, true),
        ])),
        rows: 60,
        runs: vec![10, 20, 30],
        columns: vec![
            Column::ByRow(Arc::new(Int64Array::from_iter_values((0..60).map(|row| row * 3600)))),
            Column::ByRow(Arc::new(
                (0..60).map(|row| (row % 5 > 0).then_some(f64::from(row) / 10.0)).collect::<Float64Array>(),
            )),
            Column::ByRow(Arc::new(dictionary::<Int8Type>(&["a", "é", "ccc"], &keys))),
            Column::ByRun(Arc::new(dictionary::<Int8Type>(&["a", "é", "ccc"], &[Some(1), Some(0), Some(1)]))),
            Column::ByRun(Arc::new(BooleanArray::from(vec![true, false, true]))),
        ],
    };
    let bytes = rows.pack().expect("packs");
    assert!(open_and_read(bytes.clone(), &rows.schema));
    for length in 0..bytes.len() {
        assert!(!open_and_read(bytes[..length].to_vec(), &rows.schema), "cut at {length}");
    }
    assert!(!open_and_read([bytes.as_slice(), &[0]].concat(), &rows.schema), "a byte more");
    let (mut proven, mut refused) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Rng::with_seed(seed);
        let mut changed = bytes.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..changed.len());
            changed[at] = if random.bool() { random.u8(..) } else { changed[at] ^ 1 << random.u8(..8) };
        }
        match open_and_read(changed, &rows.schema) {
            true => proven += 1,
            false => refused += 1,
        }
    }
    assert!(proven > 1_000 && refused > 1_000, "{proven} proven, {refused} refused");
}

#[test]
fn what_few_bytes_claim_is_not_believed() {
    let batch = batch(vec![Arc::new(Int64Array::from(vec![7; 1_000]))]);
    let good = RowsByRun::of_batch(&batch).pack().expect("packs");
    let mut claims = good.clone();
    claims[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let refused = Packed::open(claims.into(), &batch.schema()).expect_err("4 billion rows in 60 bytes");
    assert!(refused.to_string().contains("4294967295 rows"), "{refused}");
    let mut other_version = good.clone();
    other_version[3] += 1;
    let refused = Packed::open(other_version.into(), &batch.schema()).expect_err("another version");
    assert!(refused.to_string().contains("another version"), "{refused}");
    let renamed = Arc::new(Schema::new(vec![Field::new("other", arrow::datatypes::DataType::Int64, true)]));
    let refused = Packed::open(good.into(), &renamed).expect_err("another column");
    assert!(refused.to_string().contains("its columns are others"), "{refused}");
}
