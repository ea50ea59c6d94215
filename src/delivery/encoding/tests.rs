use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Date32Array, DictionaryArray, Float64Array, Int16Array, StringArray, StringViewArray,
    TimestampSecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;

use super::packed::{Packed, RowsByRun};
use super::*;
use crate::delivery::Arrived;

/// Columns as observations have them, and the types SQL adds.
fn schema() -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("latitude", DataType::Float64, false),
        Field::new("utc", DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), false),
        Field::new("site_name", text, false),
        Field::new("aqi", DataType::Int16, true),
        Field::new("day", DataType::Date32, true),
        Field::new("note", DataType::Utf8View, true),
    ]))
}

fn rows(from: usize, to: usize) -> RecordBatch {
    let sites: StringArray = (0..50).map(|i| Some(format!("site \"{i}\", \u{e9}\\ "))).collect();
    let keys: Vec<i32> = (from..to).map(|i| (i % 50) as i32).collect();
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Float64Array::from_iter_values((from..to).map(|i| 0.1 * i as f64 - 1.0 / 3.0))),
        Arc::new(
            TimestampSecondArray::from_iter_values((from..to).map(|i| 1_597_741_200 + 3_600 * i as i64))
                .with_timezone("UTC"),
        ),
        Arc::new(DictionaryArray::<Int32Type>::try_new(keys.into(), Arc::new(sites)).expect("valid keys")),
        Arc::new((from..to).map(|i| (i % 3 != 0).then_some(i as i16)).collect::<Int16Array>()),
        Arc::new((from..to).map(|i| (i % 4 != 0).then_some(18_492 + i as i32)).collect::<Date32Array>()),
        Arc::new(
            (from..to)
                .map(|i| (i % 5 != 0).then(|| format!("a note that is not inlined {i}")))
                .collect::<StringViewArray>(),
        ),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

/// Chunks that end at these rows, each in pieces of at most three rows from batches of their own.
fn chunks(ends: &[usize]) -> Vec<Chunk> {
    let mut start = 0;
    let chunk = |(index, end): (usize, &usize)| {
        let piece = |from| rows(0, *end).slice(from, 3.min(end - from)).into();
        let pieces = (start..*end).step_by(3).map(piece).collect();
        start = *end;
        Chunk { index: index as u64, pieces, is_last: index + 1 == ends.len() }
    };
    ends.iter().enumerate().map(chunk).collect()
}

fn batches(chunk: &Chunk) -> Vec<RecordBatch> {
    chunk.pieces.iter().map(|piece| piece.to_batch().expect("readable")).collect()
}

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).expect("printable").to_string()
}

#[test]
fn every_encoding_gives_back_what_went_in() {
    for line in ENCODINGS {
        let encoding = (line.make)();
        assert_eq!((encoding.name(), by_name(line.name).is_some()), (line.name, true));
        for ends in [&[0][..], &[1], &[7], &[3, 6, 7], &[50, 120], &[2, 2, 5]] {
            let chunks = chunks(ends);
            let (pieces, metas) = encoding.message(&chunks, &schema()).expect("encodes");
            let bytes = pieces.joined();
            let decoded = encoding.decode(&bytes, &metas, &schema()).expect("decodes");
            assert_eq!(decoded.len(), chunks.len());
            for ((chunk, meta), batch) in chunks.iter().zip(&metas).zip(&decoded) {
                assert_eq!((meta.index, meta.is_last, meta.rows), (chunk.index, chunk.is_last, chunk.rows() as u64));
                assert_eq!(batch.schema(), schema());
                let expected = concat_batches(&schema(), &batches(chunk)).expect("same schema");
                assert_eq!(text(std::slice::from_ref(batch)), text(&[expected]), "{} {ends:?}", line.name);
            }
            for chunk in &chunks {
                let alone = encoding.chunk(chunk, &schema()).expect("encodes");
                let meta = ChunkMeta {
                    index: chunk.index,
                    rows: chunk.rows() as u64,
                    is_last: chunk.is_last,
                    bytes: alone.len() as u64,
                };
                assert!(encoding.decode(&alone, &[meta], &schema()).is_ok(), "{} {ends:?}", line.name);
                let (estimate, actual) = (encoding.estimate(chunk), alone.len() as u64);
                if chunk.rows() >= 50 {
                    assert!(actual / 2 <= estimate && estimate <= actual * 3, "{}: {estimate} for {actual}", line.name);
                }
            }
        }
    }
    assert!(by_name("xml").is_none());
}

#[test]
fn json_says_everything_in_words() {
    let chunk = Chunk { index: 0, pieces: vec![rows(0, 1).into(), rows(1, 2).into()], is_last: true };
    let bytes = by_name("json").expect("in the table").chunk(&chunk, &schema()).expect("encodes");
    let expected = concat!(
        r#"[{"latitude":-0.3333333333333333,"utc":"2020-08-18T09:00:00Z","site_name":"site \"0\", é\\ ","aqi":null,"#,
        r#""day":null,"note":null},{"latitude":-0.2333333333333333,"utc":"2020-08-18T10:00:00Z","#,
        r#""site_name":"site \"1\", é\\ ","aqi":1,"day":"2020-08-19","note":"a note that is not inlined 1"}]"#,
    );
    assert_eq!(std::str::from_utf8(&bytes).expect("text"), expected);
    let empty = Chunk { index: 0, pieces: vec![], is_last: true };
    assert_eq!(by_name("json").expect("in the table").chunk(&empty, &schema()).expect("encodes").as_ref(), b"[]");
}

#[test]
fn only_used_values_cross_and_only_once_in_a_message() {
    let encoding = by_name("arrow_ipc").expect("in the table");
    let one = Chunk { index: 0, pieces: vec![rows(0, 1_000).slice(7, 1).into()], is_last: false };
    let (pieces, metas) = encoding.message(std::slice::from_ref(&one), &schema()).expect("encodes");
    let bytes = pieces.joined();
    let decoded = encoding.decode(&bytes, &metas, &schema()).expect("decodes");
    assert_eq!(decoded[0].column(2).as_dictionary::<Int32Type>().values().len(), 1);
    assert!(bytes.len() < 4_000, "{} bytes for one row", bytes.len());

    let many: Vec<Chunk> =
        (0..20).map(|index| Chunk { index, pieces: vec![rows(0, 50).into()], is_last: false }).collect();
    let (_, metas) = encoding.message(&many, &schema()).expect("encodes");
    assert!(metas[1..19].iter().all(|meta| meta.bytes + 1_000 < metas[0].bytes), "{metas:?}");
}

#[test]
fn floats_come_back_to_the_last_bit() {
    let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float64, true)]));
    let json = by_name("json").expect("in the table");
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut values: Vec<f64> = (0..500).map(|_| f64::from_bits(random.u64(..))).filter(|x| x.is_finite()).collect();
        values.extend([
            0.0,
            -0.0,
            0.1,
            1e300,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            7.0,
            -68.0,
            1e22,
            9007199254740993.0,
        ]);
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Float64Array::from(values.clone()))]);
        let chunk = Chunk { index: 0, pieces: vec![batch.expect("one column").into()], is_last: true };
        let (pieces, metas) = json.message(&[chunk], &schema).expect("encodes");
        let bytes = pieces.joined();
        let decoded = json.decode(&bytes, &metas, &schema).expect("decodes");
        let back = decoded[0].column(0).as_primitive::<arrow::datatypes::Float64Type>().values();
        for (before, after) in values.iter().zip(back) {
            assert_eq!(before.to_bits(), after.to_bits(), "{before} came back as {after}, seed {seed}");
        }
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    for line in ENCODINGS {
        let encoding = (line.make)();
        let (pieces, metas) = encoding.message(&chunks(&[3, 7]), &schema()).expect("encodes");
        let bytes = pieces.joined();
        let sum = checksum(&bytes);
        for seed in 0..1_500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut damaged = bytes.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..damaged.len());
                damaged[at] ^= 1 << random.u8(..8);
            }
            assert!(damaged == bytes.as_ref() || checksum(&damaged) != sum, "seed {seed}");
            // A flipped bit of a value cannot be noticed here; that is what the checksum is for.
            drop(encoding.decode(&damaged, &metas, &schema()));
            drop(Packed::open(damaged.into(), &schema()).and_then(|block| block.to_batch()));
        }
        for length in 0..bytes.len() {
            assert!(encoding.decode(&bytes[..length], &metas, &schema()).is_err(), "{} cut at {length}", line.name);
        }
        let mut others = metas.clone();
        others[1].rows += 1;
        assert!(encoding.decode(&bytes, &others, &schema()).is_err());
        assert!(encoding.decode(&bytes, &metas[..1], &schema()).is_err());
        assert!(encoding.decode(&bytes, &[], &schema()).is_err());
    }
    let (pieces, metas) =
        by_name("arrow_ipc").expect("in the table").message(&chunks(&[3]), &schema()).expect("encodes");
    let bytes = pieces.joined();
    let other = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, false)]));
    let refused =
        by_name("arrow_ipc").expect("in the table").decode(&bytes, &metas, &other).expect_err("other columns");
    assert!(refused.to_string().ends_with("expected (x Utf8)"), "{refused}");
}

/// Rows `from..to` of a block of the first hundred.
fn of_block(block: &Packed, index: u64, from: usize, to: usize) -> Chunk {
    let piece = Arrived::from(block.clone()).slice(from, to - from);
    Chunk { index, pieces: vec![piece], is_last: to == 100 }
}

#[test]
fn rows_of_a_block_come_back_wherever_chunks_end() {
    let block = RowsByRun::of_batch(&rows(0, 100)).pack().expect("packs");
    let block = Packed::open(block.into(), &schema()).expect("a block");
    let other =
        Packed::open(RowsByRun::of_batch(&rows(0, 100)).pack().expect("packs").into(), &schema()).expect("same");
    let two = |from: usize, to: usize| {
        let pieces =
            vec![Arrived::from(block.clone()).slice(from, 100 - from), Arrived::from(other.clone()).slice(0, to)];
        Chunk { index: 1, pieces, is_last: false }
    };
    for line in ENCODINGS {
        let encoding = (line.make)();
        for chunks in [
            vec![of_block(&block, 0, 0, 100)],
            vec![of_block(&block, 3, 20, 30)],
            vec![of_block(&block, 0, 0, 30), of_block(&block, 1, 30, 31), of_block(&block, 2, 31, 100)],
            vec![of_block(&block, 0, 10, 60), of_block(&other, 1, 60, 100)],
            vec![of_block(&block, 0, 0, 60), of_block(&block, 1, 20, 30)],
            vec![of_block(&block, 0, 0, 90), two(90, 5), of_block(&other, 2, 5, 100)],
            vec![Chunk { index: 0, pieces: vec![rows(0, 7).into()], is_last: false }, of_block(&block, 1, 7, 100)],
        ] {
            let (pieces, metas) = encoding.message(&chunks, &schema()).expect("encodes");
            let bytes = pieces.joined();
            let said: Vec<(u64, u64, bool)> = metas.iter().map(|meta| (meta.index, meta.rows, meta.is_last)).collect();
            let expected: Vec<(u64, u64, bool)> =
                chunks.iter().map(|chunk| (chunk.index, chunk.rows() as u64, chunk.is_last)).collect();
            assert_eq!(said, expected);
            let back = encoding.decode(&bytes, &metas, &schema()).expect("decodes");
            for (chunk, back) in chunks.iter().zip(&back) {
                let expected = concat_batches(&schema(), &batches(chunk)).expect("same schema");
                assert_eq!(text(std::slice::from_ref(back)), text(&[expected]), "{} {said:?}", line.name);
            }
        }
    }
    // Whole or for the most part, it goes as it is; a little of it goes alone.
    let packed = by_name("packed").expect("in the table");
    let is_within = |chunk: Chunk| {
        let bytes = packed.message(&[chunk], &schema()).expect("encodes").0.joined();
        bytes.windows(block.bytes().len()).any(|window| window == block.bytes())
    };
    assert!(is_within(of_block(&block, 0, 0, 100)) && is_within(of_block(&block, 0, 30, 80)));
    assert!(!is_within(of_block(&block, 0, 30, 70)));
}

#[test]
fn a_schema_stands_alone() {
    let alone = schema::encode_schema(&schema()).expect("encodes");
    assert_eq!(schema::decode_schema(&alone).expect("decodes"), schema());
    assert!(schema::decode_schema(&alone[..alone.len() - 1]).is_err());
}

#[test]
fn a_message_takes_chunks_up_to_its_target_and_at_least_one() {
    let chunk = |index| Chunk { index, pieces: vec![rows(0, 100).into()], is_last: false };
    for line in ENCODINGS {
        let encoding = (line.make)();
        let own = encoding.estimate(&chunk(0));
        for (target, expected) in [(0, 1), (own, 1), (2 * own - 1, 1), (2 * own, 2), (5 * own, 5), (u64::MAX, 9)] {
            let mut packing = packing::Packing::new(target);
            let more = (0..9).map(chunk).take_while(|chunk| packing.add(encoding.as_ref(), chunk)).count();
            assert_eq!((more + 1).min(9), expected, "{} with {target} bytes", line.name);
            assert_eq!(packing.bytes(), own * expected as u64, "{}", line.name);
        }
    }
}
