use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::delivery::encoding::packed::{Packed, RowsByRun};
use crate::delivery::{LastLoaded, chunking};

const T0: Duration = Duration::ZERO;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn numbers(from: i64, to: i64) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(from..to))]).expect("one column")
}

fn cut_by(strategy: &str, base: usize) -> ResultBuffer {
    let strategy = chunking::by_name(strategy).expect("in the table").into();
    ResultBuffer::new(schema(), ChunkingParams { strategy, estimate: 0, limit: None, base, chunk_rows_max: 65_536 })
}

/// Asks for a chunk that is there, which takes no time to be encoded; its rows.
fn read_at(result: &mut ResultBuffer, index: u64, now: Duration) -> usize {
    let rows = match result.ask(index, now) {
        ChunkState::Ready(chunk) => chunk.rows(),
        other => panic!("chunk {index}: {other:?}"),
    };
    result.made(now);
    rows
}

/// `first..end` and `!` for the last chunk; `-` not yet, `x` out of range, `gone`, or the failure.
fn say(state: &ChunkState) -> String {
    match state {
        ChunkState::Ready(chunk) => {
            let values = |piece: &Arrived| {
                piece.to_batch().expect("readable").column(0).as_primitive::<Int64Type>().values().to_vec()
            };
            let loaded = chunk.clone().load(&mut LastLoaded::default()).expect("all is in memory");
            let rows: Vec<i64> = loaded.pieces.iter().flat_map(values).collect();
            let first = rows.first().copied().unwrap_or(0);
            assert_eq!(rows, (first..first + rows.len() as i64).collect::<Vec<_>>());
            format!("{first}..{}{}", first + rows.len() as i64, if chunk.is_last { "!" } else { "" })
        }
        ChunkState::NotYet => "-".to_owned(),
        ChunkState::OutOfRange { total_chunks } => format!("x{total_chunks}"),
        ChunkState::Failed(reason) => reason.to_string(),
        ChunkState::Gone(why) => format!("gone: {why}"),
    }
}

/// A story of operations on a result with chunks of three rows: `+n` appends, `end`, `fail`, `all` fixes all, `ack i`
/// acknowledges, a number asks and is followed by `=` and what is expected.
fn check(story: &str) {
    let mut result = cut_by("fixed", 3);
    for step in story.split(", ") {
        let rows = result.rows_so_far() as i64;
        if let Some(n) = step.strip_prefix('+') {
            let n: i64 = n.parse().expect("a number of rows");
            assert_eq!(result.append(numbers(rows, rows + n)), Ok(()));
        } else if let Some(index) = step.strip_prefix("ack ") {
            result.acknowledge_through(index.parse().expect("an index"));
        } else if let Some(total) = step.strip_prefix("all=") {
            assert_eq!(result.fix_all().map_or("?".to_owned(), |n| n.to_string()), total, "{story}");
        } else if let Some((index, expected)) = step.split_once('=') {
            let state = result.ask(index.parse().expect("an index"), T0);
            assert_eq!(say(&state), expected, "{step} in {story}");
        } else {
            match step {
                "end" => result.finish(),
                "fail" => result.fail("broken"),
                _ => panic!("{step}?"),
            }
        }
    }
}

#[test]
fn chunks_come_as_soon_as_it_is_known_whether_they_are_the_last() {
    check("0=-, +2, 0=-, +1, 0=-, +1, 0=0..3, 1=-, end, 1=3..4!, 2=x2");
    check("+3, 0=-, end, 0=0..3!, 1=x1");
    check("+6, 0=0..3, 1=-, end, 1=3..6!, 2=x2");
    check("+7, 1=3..6, 0=0..3, 2=-, 99=-, end, 99=x3, 2=6..7!");
    check("+1, +1, +1, +1, 0=0..3, +0, 1=-");
}

#[test]
fn an_empty_result_has_one_chunk() {
    check("end, 0=0..0!, 1=x1, all=1");
    check("+0, end, all=1, 0=0..0!, ack 0, 0=gone: acknowledged, 1=x1");
}

#[test]
fn totals_are_said_only_when_known() {
    check("all=?, +7, all=?, 0=0..3, all=?, end, all=3, 2=6..7!");
    check("+7, fail, all=?");
    let mut result = cut_by("fixed", 3);
    result.append(numbers(0, 4)).expect("same schema");
    assert_eq!((result.total_records(), result.total_chunks(), result.rows_so_far()), (None, None, 4));
    result.finish();
    assert_eq!((result.total_records(), result.total_chunks()), (Some(4), None));
    result.ask(1, T0);
    assert_eq!(result.total_chunks(), Some(2));
}

#[test]
fn a_chunk_is_read_again_until_acknowledged() {
    check("+9, 0=0..3, 0=0..3, 1=3..6, ack 0, 0=gone: acknowledged, 1=3..6, end, 2=6..9!, ack 7, 2=gone: acknowledged");
    check("ack 0, +4, ack 5, 0=0..3, ack 0, 0=gone: acknowledged, ack 0, 1=-");
}

#[test]
fn a_failed_result_says_why_and_holds_nothing() {
    check("+9, 0=0..3, fail, 0=broken, 5=broken, end, 0=broken");
    let mut result = cut_by("fixed", 3);
    result.append(numbers(0, 4)).expect("same schema");
    result.fail("broken");
    assert_eq!((result.bytes(), result.failure(), result.has_ended()), (0, Some("broken"), true));
    assert_eq!(result.append(numbers(4, 5)), Err(NotAccepted::Ended));
}

#[test]
fn batches_of_another_shape_are_refused() {
    let mut result = cut_by("fixed", 3);
    let other = RecordBatch::try_from_iter([("m", Arc::new(Int64Array::from(vec![1])) as _)]).expect("one column");
    let refused = result.append(other).expect_err("another column").to_string();
    assert_eq!(refused, "columns are (m Int64), expected (n Int64)");
    assert_eq!((result.rows_so_far(), result.bytes()), (0, 0));
}

#[test]
fn acknowledged_batches_are_freed() {
    let mut result = cut_by("fixed", 3);
    let one = result.cost(&numbers(0, 3).into());
    for i in 0..4 {
        result.append(numbers(i * 3, i * 3 + 3)).expect("same schema");
    }
    result.finish();
    assert_eq!((result.bytes(), result.fix_all()), (4 * one, Some(4)));
    for acknowledged in 0..4 {
        result.acknowledge_through(acknowledged);
        assert_eq!(result.bytes(), (3 - acknowledged) * one);
    }
    assert!(result.is_acknowledged_to_the_end());
}

#[test]
fn a_quick_reader_gets_larger_chunks_and_old_ones_stay() {
    let mut result = cut_by("adaptive", 200);
    result.append(numbers(0, 20_000)).expect("same schema");
    result.finish();
    // One millisecond per chunk, whatever its size.
    let sizes: Vec<usize> = (0..5).map(|i| read_at(&mut result, i, Duration::from_millis(i))).collect();
    assert_eq!(sizes, [1_000, 2_000, 4_000, 8_000, 5_000]);
}

/// Chunks end with batches, and have as many of them as their reader can take: they grow beyond small ones.
#[test]
fn chunks_grow_beyond_small_batches() {
    let mut result = cut_by("adaptive", 200);
    for batch in 0..40 {
        result.append(numbers(batch * 1_024, (batch + 1) * 1_024)).expect("same schema");
    }
    result.finish();
    let sizes: Vec<usize> = (0..5).map(|i| read_at(&mut result, i, Duration::from_micros(i))).collect();
    assert_eq!(sizes, [1_000, 1_048, 2_048, 4_096, 8_192]);
}

/// Blocks of 3000 rows, which a reader that gets 1000 at first is given whole; not so from blocks that are too large.
#[test]
fn chunks_end_with_blocks_if_that_is_not_much_more() {
    let check = |strategy: &str, block_rows: i64, expected: &[usize]| {
        let mut result = cut_by(strategy, 200);
        result.set_estimate(100_000);
        for block in 0..4 {
            let rows = numbers(block * block_rows, (block + 1) * block_rows);
            let bytes = RowsByRun::of_batch(&rows).pack().expect("packs");
            result.append(Packed::open(bytes.into(), &schema()).expect("a block")).expect("same schema");
        }
        result.finish();
        let sizes = (0..).map_while(|index| match result.ask(index, T0) {
            ChunkState::Ready(chunk) => Some(chunk.rows()),
            _ => None,
        });
        assert_eq!(sizes.take(expected.len()).collect::<Vec<_>>(), expected, "{strategy}, blocks of {block_rows} rows");
    };
    check("adaptive", 3_000, &[3_000; 4]);
    check("adaptive", 8_000, &[8_000; 4]);
    check("adaptive", 600, &[1_200, 1_200]);
    check("adaptive", 9_000, &[1_000, 8_000, 1_000, 8_000]);
    check("fixed", 3_000, &[200; 60]);
}

/// Quick, then slow, then quick again: chunks grow to the largest, shrink to the smallest within four, and grow again.
#[test]
fn a_reader_that_becomes_slow_gets_small_chunks_again() {
    let mut result = cut_by("adaptive", 200);
    result.append(numbers(0, 2_000_000)).expect("same schema");
    result.finish();
    let mut now = T0;
    let mut index = 0;
    let mut read = |chunks: usize, each: Duration| -> Vec<usize> {
        let sizes = (0..chunks).map(|_| {
            let rows = read_at(&mut result, index, now);
            index += 1;
            now += each;
            rows
        });
        sizes.collect()
    };
    let quick = read(12, Duration::from_micros(100));
    assert_eq!((quick[0], quick[11]), (1_000, 65_536), "{quick:?}");
    let slow = read(12, Duration::from_secs(1));
    assert!(slow.windows(2).skip(1).all(|pair| pair[1] <= pair[0]), "{slow:?}");
    assert!(slow[4..].iter().all(|rows| *rows == 1_000), "{slow:?}");
    // A second is forgotten with the eighth chunk after it.
    let again = read(20, Duration::from_micros(100));
    assert!(again[..7].iter().all(|rows| *rows == 1_000), "{again:?}");
    assert_eq!(again[19], 65_536, "{again:?}");
}

#[test]
fn random_reads_see_every_row_once_and_the_same_at_every_read() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let strategy = chunking::STRATEGIES[random.usize(..chunking::STRATEGIES.len())].name;
        let mut result = cut_by(strategy, random.usize(1..300));
        let mut seen: Vec<Option<Cut>> = Vec::new();
        let total = random.i64(0..5_000);
        let mut rows = 0;
        for step in 0.. {
            if rows < total {
                let more = random.i64(1..=(total - rows).min(700));
                result.append(numbers(rows, rows + more)).expect("same schema");
                rows += more;
            } else if random.bool() {
                result.finish();
            }
            let index = random.usize(0..=seen.len() + 1);
            if let ChunkState::Ready(chunk) = result.ask(index as u64, Duration::from_micros(step)) {
                seen.resize(seen.len().max(index + 1), None);
                let before = seen[index].get_or_insert_with(|| chunk.clone());
                assert_eq!(before.rows(), chunk.rows(), "chunk {index} moved, seed {seed}, {strategy}");
                assert_eq!(before.is_last, chunk.is_last, "seed {seed}, {strategy}");
            }
            if result.has_ended() && random.u8(..10) == 0 {
                break;
            }
        }
        let chunks = result.fix_all().expect("finished");
        let mut next = 0;
        for index in 0..chunks {
            let state = result.ask(index, T0);
            let text = say(&state);
            assert!(text.starts_with(&format!("{next}..")), "{text} after {next}, seed {seed}, {strategy}");
            assert_eq!(text.ends_with('!'), index + 1 == chunks, "seed {seed}, {strategy}");
            if let (ChunkState::Ready(chunk), Some(Some(before))) = (&state, seen.get(index as usize)) {
                assert_eq!(say(&ChunkState::Ready(before.clone())), text, "seed {seed}, {strategy}");
                next += chunk.rows() as i64;
            } else if let ChunkState::Ready(chunk) = &state {
                next += chunk.rows() as i64;
            }
        }
        assert_eq!(next, total, "seed {seed}, {strategy}");
    }
}
